# docker build -t sightline .                                                               CPU
# docker build -t sightline:cuda --build-arg KIND=gpu .                                     NVIDIA
# docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#   -p 127.0.0.1:8008:8008 -e SIGHTLINE_TOKEN=... -v sightline:/data -v ~/Pictures:/pictures:ro sightline
#
# BASE is the base image; give it by digest (docs/running.md). TORCH_INDEX is the address of a package
# index with another build of torch.
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG KIND=cpu
ARG TORCH_INDEX
WORKDIR /src
COPY . .
# Every package but Sightline itself is checked against the hashes in .docker/.
RUN if [ -n "$TORCH_INDEX" ]; \
    then pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch>=2.6,<2.14"; \
    else pip install --no-cache-dir --require-hashes -r .docker/torch.txt; fi \
 && pip install --no-cache-dir --require-hashes --no-deps -r ".docker/$KIND.txt" \
 && pip install --no-cache-dir --no-deps --no-build-isolation ".[$KIND,raw,exchange,watch]" \
 && pip check \
 && useradd --uid 10001 --create-home sightline && install -d -o sightline -m 700 /data \
 && rm -rf /src/*
USER 10001
WORKDIR /data
ENV SIGHTLINE_LIBRARY=/data/library HF_HOME=/data/models XDG_CACHE_HOME=/data/cache \
    PYTHONDONTWRITEBYTECODE=1
VOLUME /data
EXPOSE 8008
HEALTHCHECK CMD python -c "import urllib.request as r; r.urlopen('http://127.0.0.1:8008/healthz', timeout=4)"
ENTRYPOINT ["sightline"]
CMD ["serve", "--host", "0.0.0.0", "/pictures"]
