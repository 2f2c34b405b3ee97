# docker build -t sightline .                                                               CPU
# docker build -t sightline:cuda --build-arg KIND=gpu .                                     NVIDIA
# docker run -p 8008:8008 -e SIGHTLINE_TOKEN=... -v sightline:/data -v ~/Pictures:/pictures:ro sightline
#
# TORCH_INDEX is the address of a package index with another build of torch; see docs/running.md.
FROM python:3.12-slim
ARG KIND=cpu
ARG TORCH_INDEX
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.6,<2.14" \
 && pip install --no-cache-dir ".[$KIND,raw,exchange,watch]" \
 && useradd --create-home sightline && install -d -o sightline /data
USER sightline
WORKDIR /data
ENV SIGHTLINE_LIBRARY=/data/library HF_HOME=/data/models
VOLUME /data
EXPOSE 8008
HEALTHCHECK CMD python -c "import urllib.request as r; r.urlopen('http://127.0.0.1:8008/healthz', timeout=4)"
ENTRYPOINT ["sightline"]
CMD ["serve", "--host", "0.0.0.0", "/pictures"]
