"""Everyday names for the classes of the photographs that the built-in model learns from.

A class list names things as a taxonomist would ("Carassius auratus"); people search for "a fish".
Here 200 WordNet ids belong to one or more broader groups with the words people use for them, and
the classes of the clothing data set have their synonyms.
"""

from __future__ import annotations

# Words for one group (the first is the plainest) -> the WordNet ids of Tiny ImageNet in it.
BROADER: dict[tuple[str, ...], str] = {
    ("animal", "animals", "wildlife", "creature"): (
        "n01443537 n01629819 n01641577 n01644900 n01698640 n01742172 n01855672 n01882714 n01944390"
        " n02002724 n02056570 n02058221 n02074367 n02123045 n02123394 n02124075 n02125311 n02129165"
        " n02132136 n02085620 n02094433 n02099601 n02099712 n02106662 n02113799 n02364673 n02395406"
        " n02403003 n02410509 n02415577 n02423022 n02437312 n02480495 n02481823 n02486410 n02504458"
        " n02509815"
    ),
    ("dog", "dogs", "puppy", "pet dog", "doggy"): (
        "n02085620 n02094433 n02099601 n02099712 n02106662 n02113799"
    ),
    ("cat", "cats", "kitten", "pet cat", "kitty"): "n02123045 n02123394 n02124075",
    ("pet", "pets", "furry pet"): (
        "n02085620 n02094433 n02099601 n02113799 n02123045 n02123394 n02124075 n02364673"
    ),
    ("wild cat", "big cat", "feline predator"): "n02125311 n02129165",
    ("bird", "birds", "large bird"): "n01855672 n02002724 n02056570 n02058221",
    ("penguin", "penguins"): "n02056570",
    ("fish", "fishes", "aquarium fish"): "n01443537",
    ("frog", "frogs", "toad", "amphibian"): "n01641577 n01644900",
    ("reptile", "reptiles"): "n01698640 n01742172",
    ("snake", "snakes"): "n01742172",
    ("crocodile", "alligator"): "n01698640",
    ("lizard", "salamander", "newt"): "n01629819",
    ("spider", "spiders"): "n01774384 n01774750",
    ("insect", "insects", "bug", "bugs"): (
        "n02165456 n02190166 n02206856 n02226429 n02231487 n02233338 n02236044 n02268443 n02279972"
        " n02281406"
    ),
    ("butterfly", "butterflies"): "n02279972 n02281406",
    ("beetle", "red beetle"): "n02165456",
    ("snail or slug", "slimy animal", "mollusc"): "n01944390 n01945685",
    ("sea life", "sea creature", "marine animal"): (
        "n01910747 n01917289 n01950731 n01983481 n01984695 n02321529 n02074367 n09256479"
    ),
    ("lobster", "shellfish", "seafood"): "n01983481 n01984695",
    ("coral", "underwater scene", "under water", "diving"): (
        "n01917289 n09256479 n01950731 n01910747 n02321529"
    ),
    ("monkey", "monkeys", "ape", "primate"): "n02480495 n02481823 n02486410",
    ("bear", "bears"): "n02132136",
    ("panda", "small bear"): "n02509815",
    ("elephant", "elephants"): "n02504458",
    ("camel", "camels"): "n02437312",
    ("pig", "pigs", "piglet"): "n02395406",
    ("cow", "cattle", "cows", "bull"): "n02403003 n02410509",
    ("sheep", "mountain goat", "ram"): "n02415577",
    ("deer", "antelope"): "n02423022",
    ("farm animal", "farm animals", "livestock"): "n02395406 n02403003",
    ("hamster", "rodent", "small furry animal"): "n02364673",
    ("food", "something to eat", "tasty food"): (
        "n07583066 n07614500 n07615774 n07695742 n07711569 n07715103 n07720875 n07734744 n07747607"
        " n07749582 n07753592 n07768694 n07871810 n07873807 n07875152 n07579787"
    ),
    ("meal", "dinner", "dish of food", "lunch", "cooked food"): (
        "n07579787 n07711569 n07871810 n07873807 n07875152 n07583066"
    ),
    ("fruit", "fruits", "fresh fruit"): "n07747607 n07749582 n07753592 n07768694",
    ("vegetable", "vegetables", "fresh vegetables"): "n07715103 n07720875 n07734744",
    ("dessert", "sweets", "ice cream cone", "sweet treat"): "n07614500 n07615774",
    ("snack", "baked food", "pastry", "bread"): "n07695742 n07875152",
    ("coffee", "a cup of coffee", "hot drink"): "n07920052",
    ("drink", "bottle", "bottles", "drinks"): "n02823428 n03983396 n04560804 n03937543",
    ("car", "cars", "automobile"): "n02814533 n03100240 n03670208 n04285008",
    ("vehicle", "vehicles", "transport", "traffic"): (
        "n02814533 n03100240 n03670208 n04285008 n03796401 n03977966 n04146614 n04465501 n04487081"
        " n02917067 n03393912 n03444034 n03599486"
    ),
    ("bus", "buses", "coach"): "n04146614 n04487081",
    ("van", "truck", "lorry"): "n03796401 n03977966",
    ("train", "trains", "railway", "locomotive"): "n02917067 n03393912",
    ("boat", "boats", "ship"): "n03447447 n03662601",
    ("cart", "small vehicle"): "n03444034 n03599486",
    ("farm machine", "farm vehicle", "tractor on a field"): "n04465501",
    ("building", "buildings", "architecture"): (
        "n02793495 n02814860 n03042490 n04417672 n04486054 n04562935 n03837869"
    ),
    ("house", "cottage", "farmhouse", "barn on a farm"): "n02793495 n04417672",
    ("tower", "towers", "tall tower"): "n02814860 n04562935 n03837869",
    ("monument", "landmark", "famous place", "memorial"): "n03837869 n04486054 n02892201 n03388043",
    ("bridge", "bridges"): "n04311004 n04366367 n04532670",
    ("church", "inside a church", "religious ceremony"): "n02699494 n03854065 n04532106",
    ("shop", "store", "market", "shopping"): "n02791270 n02927161 n03089624",
    ("mountain", "mountains", "snowy mountains", "mountain range", "hiking"): "n09193705",
    ("cliff", "rocks", "rocky coast"): "n09246464 n03042490",
    ("lake", "by the lake", "a calm lake"): "n09332890",
    ("beach", "sea", "ocean", "seaside", "shore", "waves"): "n09428293",
    ("landscape", "nature", "scenery", "outdoors", "view"): (
        "n09193705 n09246464 n09332890 n09428293 n04532670 n04366367"
    ),
    ("water", "by the water"): "n09332890 n09428293 n03160309 n03388043 n03447447",
    ("river", "canal"): "n03160309 n03447447 n04366367",
    ("clothes", "clothing", "outfit", "fashion"): (
        "n02669723 n02730930 n02837789 n02963159 n03404251 n03617480 n03763968 n03770439 n03980874"
        " n04371430 n04254777 n04532106"
    ),
    ("swimwear", "swimsuit", "swimming"): "n02837789 n04371430",
    ("coat", "jacket", "sweater", "warm clothes"): "n02963159 n03404251 n03980874",
    ("skirt", "dress", "traditional dress"): "n03770439 n03617480",
    ("shoe", "shoes", "footwear"): "n04133789",
    ("hat", "hats"): "n04259630",
    ("glasses", "sunglasses on a face"): "n04356056",
    ("soldier", "soldiers", "army"): "n03763968",
    ("graduation", "graduates", "students in gowns"): "n02669723",
    ("furniture", "room", "interior", "indoors"): (
        "n03179701 n03201208 n04099969 n03014705 n02808440 n03637318 n04070727"
    ),
    ("table", "tables", "dining room"): "n03201208 n03179701",
    ("chair", "chairs", "seat"): "n04099969",
    ("office", "computer", "workplace"): "n03179701 n03085013",
    ("bathroom", "bath"): "n02808440",
    ("kitchen", "cooking", "kitchenware"): (
        "n03400231 n04398044 n04596742 n04597913 n04070727 n02909870"
    ),
    ("lamp", "lights", "light"): "n03637318 n02948072 n04456115",
    ("fire", "flame", "candlelight"): "n02948072 n04456115",
    ("tool", "tools", "device", "instrument"): (
        "n02906734 n03649909 n03804744 n03970156 n04251144 n04376876 n03706229 n03544143 n04328186"
    ),
    ("electronics", "gadget", "electronic device", "music player"): (
        "n02988304 n03584254 n04074963 n03085013 n02977058"
    ),
    ("telephone", "phone booth", "pay phone"): "n03902125",
    ("clock", "watch", "time"): "n04328186 n03544143",
    ("musical instrument", "music", "playing music"): "n03838899 n03854065 n03250847",
    ("sport", "sports", "ball game", "match", "player"): (
        "n02802426 n04118538 n04540053 n03355925 n04149813 n03255030 n04023962"
    ),
    ("ball", "balls"): "n02802426 n04118538 n04540053",
    ("gym", "exercise", "training"): "n03255030 n04023962",
    ("toy", "toys", "cuddly toy", "stuffed animal"): "n04399382",
    ("bag", "bags", "luggage"): "n02769748",
    ("umbrella", "umbrellas", "rain", "parasol"): "n04507155",
    ("flag", "flags"): "n03355925",
    ("fence", "garden fence", "railing"): "n03930313 n02788148",
    ("garden", "lawn", "yard", "backyard"): "n03649909 n03930313 n02843684",
    ("book", "books", "comics", "reading"): "n06596364",
    ("street", "city", "city street", "town"): (
        "n03891332 n04487081 n03670208 n04486054 n03902125 n03599486 n03977966"
    ),
    ("weapon", "gun", "rocket"): "n02950826 n04008634",
    ("christmas", "holidays", "christmas decoration"): "n03026506",
    ("festival", "celebration", "party"): "n03733131",
    ("haircut", "hairdresser"): "n02791270",
    ("nut", "nuts", "autumn", "plant"): "n12267677",
    ("mushrooms", "forest floor", "woods"): "n07734744",
    ("web", "cobweb", "dew"): "n04275548",
}

# Names that need a word more than the class list gives, so that no two classes share one.
CLEARER: dict[str, tuple[str, ...]] = {
    "n03126707": ("crane", "construction crane", "building crane"),
    "n02892201": ("brass", "memorial tablet", "plaque", "brass plaque"),
    "n03804744": ("nail", "metal nail", "nails"),
    "n02190166": ("fly", "housefly"),
    "n07747607": ("orange", "oranges", "orange fruit"),
    "n03014705": ("chest", "wooden chest", "treasure chest"),
    "n03250847": ("drumstick", "drumsticks", "drum"),
    "n04067472": ("reel", "fishing reel"),
    "n03976657": ("pole", "street pole"),
    "n02999410": ("chain", "metal chain"),
    "n07579787": ("plate", "plate of food"),
    "n04456115": ("torch", "burning torch"),
}

# The labels "Not sure", "Other" and "Skip" say nothing about the picture and are left out.
CLOTHING: dict[str, tuple[str, ...]] = {
    "Blazer": ("blazer", "suit jacket", "formal jacket"),
    "Blouse": ("blouse", "woman's blouse"),
    "Body": ("bodysuit", "baby bodysuit", "romper"),
    "Dress": ("dress", "dresses", "gown"),
    "Hat": ("hat", "cap", "baseball cap"),
    "Hoodie": ("hoodie", "hooded sweatshirt"),
    "Longsleeve": ("long-sleeved shirt", "sweater", "pullover", "jumper", "long sleeve top"),
    "Outwear": ("jacket", "coat", "winter coat", "outerwear"),
    "Pants": ("trousers", "pants", "jeans"),
    "Polo": ("polo shirt", "polo"),
    "Shirt": ("shirt", "button-up shirt", "dress shirt"),
    "Shoes": ("shoes", "shoe", "sneakers", "boots"),
    "Shorts": ("shorts", "short trousers"),
    "Skirt": ("skirt", "skirts"),
    "T-Shirt": ("t-shirt", "tee shirt", "tee", "T shirt"),
    "Top": ("top", "woman's top"),
    "Undershirt": ("undershirt", "vest", "tank top"),
}

# Words that take no article ("a photo of food"); plurals are told by their last letter.
UNCOUNTED = {
    *("wildlife", "livestock", "cattle", "food", "seafood", "coffee", "espresso", "guacamole"),
    *("clothing", "fashion", "footwear", "swimwear", "furniture", "electronics", "kitchenware"),
    *("luggage", "traffic", "transport", "nature", "scenery", "architecture", "rain", "water"),
    *("music", "training", "exercise", "reading", "shopping", "hiking", "diving", "swimming"),
    *("cooking", "time", "brass", "christmas", "underwater"),
}

# "{}" is a bare word, as most people type one; "{a}" carries its article.
TEMPLATES: tuple[str, ...] = (
    "{}",
    "{}",
    "{a}",
    "a photo of {a}",
    "a photo of {a}",
    "a picture of {a}",
    "an image of {a}",
    "a close-up of {a}",
    "a small photo of {a}",
    "my photo of {a}",
    "there is {a} here",
    "photo of {}",
)


def article(name: str) -> str:
    """``"dog" -> "a dog"``, ``"apple" -> "an apple"``; plurals and substances as they are."""
    plural = name.endswith("s") and not name.endswith("ss")
    words = name.split()
    if plural or words[-1] in UNCOUNTED or words[0] in {"a", "by", "inside", "under"}:
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def phrase(name: str, template: str) -> str:
    """A class name in a template: ``{}`` is the bare name, ``{a}`` the name with its article."""
    return template.replace("{a}", article(name)).replace("{}", name)
