"""The vocabulary of visible things.

A model understands these words by themselves; any other word of a query that is in an image's text
is treated as a name ("germany", "anna", "2019"), which the model may not know.
"""

from __future__ import annotations

from functools import cache

from sightline.server.search.language import caption_words

WORDS = """
airport alley ant apple apron arch arm autumn avenue backpack bag bakery ball balloon banana
band bank bar barrel basket bat bath bathroom bay bead bear beard bedroom bee beer beetle bell
belt bench berry bird blanket blizzard blond blossom bone book boot bottle bowl bowtie box
bracelet branch brick bronze broom brush bubble bucket bud bulb bull bun bunny bush butter
button cabin cabinet cable cactus cage camel campfire candy canoe canyon cap cape carpet carrot
cart cave ceiling chain chalk cheese cherry chest chicken chimney chocolate cigarette circus
clay cliff cloak clock closet cloth clothes cloud cloudy club coast coat cocktail coin collar
column comb concert cookie coral corn corridor cottage couch court crab crane crayon cream creek
crocodile crow crown crystal cucumber cup curtain dam dark dawn deck deer desert desk dessert
diamond dice dinner dinosaur dock doll dolphin donkey door dot dragon drawing dress drink drone
drum duck dune dusk eagle ear earring egg elbow elephant elevator engine envelope evening eye
face factory fairy farm feather fence fern festival fig finger firework fireworks fist flag
flame flamingo flood floor flour fog foggy foot football fork fort fountain fox frame fridge
frog frost fruit fur furniture galaxy gallery garage garlic gate ghost giraffe glacier glove
gloves goal goat gold golden goose gorilla grape grass gravel grey grill guitar gun gym hail
hair hall hammer hammock hand handbag harbor harbour harp hat hawk hay hedge helicopter helmet
herb hippo hook horizon horn hospital hotel hut ice icicle igloo indoor insect iron island ivory
jacket jar jeans jelly jellyfish jewel juice jungle kangaroo kettle key keyboard kiss kitchen
kite knee knife knight knot ladder lamb lamp lane lantern laptop lava lawn leaf leather leg
lemon leopard letter library lid light lightning lime lion lip lizard lobster lock log lunch
machine magazine mailbox map marble mask mast meadow meal meat medal microscope milk mill mirror
mist misty monkey monster moose morning mosque moss motel moth motorbike mouse mouth mud mug
museum mushroom nail neck necklace needle neon nest net newspaper noodle nose nut oak oar oasis
ocean octopus onion orchard orchid ostrich outdoor oven owl ox oyster paint palace palm pan
panda pants paper parachute parade parrot party pasta path pavement paw pea peach peacock peak
pear pebble pen pencil penguin pepper petal piano pie pig pigeon pill pillow pin pine pineapple
pink pipe pirate planet plate plum polar pole pond pony pool porch portrait pot potato prairie
pumpkin puppet purple purse pyramid quilt rabbit raccoon radio raft rail rain rainbow rainy ramp
ranch rat reed reef reptile ribbon rice ring roast robot rock rocket roof rooster root rope rose
round rug ruins runner rust sail salad salmon salt sand sandal sandwich sauce sausage saw scarf
school scissors scooter screen sculpture seal seat seed shade shadow shark shelf shell shield
ship shirt shoe shoes shop shore shorts shovel shrimp silhouette silk silver singer sink skate
skeleton ski skirt skull skunk sky skyline skyscraper sled sleeve slide slipper smile smoke
snail snake sneaker soap sock soil soldier soup spider spiral spoon spring squirrel stable
stadium stage stairs stamp star statue steak steam steel stone store stork storm stormy stove
straw strawberry stream stripe submarine suburb subway suit suitcase summer sun sunny sunrise
surf swan sweater swimsuit swing sword tail tank tattoo taxi tea teapot teddy temple tennis tent
terrace theater thorn throne thumb ticket tie tiger tile tire toad toast toe toilet tomato tomb
tongue tool tooth towel tower town toy track tractor traffic trail tram trash tray treasure
triangle trophy truck trumpet trunk tub tulip tunnel turtle twig twilight uniform valley van
vase vegetable veil vest village vine violin volcano vulture waffle wagon wall wallet walnut
walrus warehouse watch watermelon wave waves web wedding weed whale wheat wheel whip whisker wig
willow wind windmill wing winter wire wolf wood wooden woods wool worm yacht yarn yellow zebra
zoo
"""


@cache
def visual_words() -> frozenset[str]:
    """``WORDS`` and the words of the caption bank."""
    return caption_words() | frozenset(WORDS.split())
