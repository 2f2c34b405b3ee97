"""Captions of everyday photos, written for this project.

They are the text queries that the vector index is tuned for, the candidates of ``describe``, and
the bank that label and query scores are compared with.
"""

from __future__ import annotations

CAPTIONS: tuple[str, ...] = tuple(
    line.strip()
    for line in """
    a dog running on the beach
    two dogs playing in the snow
    a puppy asleep on a sofa
    a black and white cat on a window sill
    a kitten playing with a ball of wool
    a horse grazing in a green field
    cows in front of a barn
    a flock of sheep on a hillside
    a bird sitting on a branch
    seagulls over a harbour
    a swan on a lake at dawn
    a butterfly on a purple flower
    a bee on a sunflower
    a squirrel holding a nut
    a deer at the edge of a forest
    an elephant at a waterhole
    a lion resting in dry grass
    fish in an aquarium
    a turtle swimming under water
    a snail on a wet leaf
    a birthday cake with burning candles
    a plate of pasta with tomato sauce
    a bowl of soup on a wooden table
    a pizza fresh from the oven
    a hamburger with fries
    sushi on a black plate
    a salad with avocado and egg
    fresh bread on a cutting board
    a basket of apples
    strawberries in a white bowl
    vegetables on a market stall
    a cup of coffee with foam
    a glass of red wine
    two beers on a bar
    breakfast in bed
    a picnic on a blanket in the park
    friends having dinner at a long table
    a chef cooking in a kitchen
    an ice cream cone in a hand
    cookies on a baking tray
    a child blowing soap bubbles
    a baby asleep in a cot
    a toddler taking first steps
    children playing football
    a girl on a swing
    a boy on a bicycle
    a family portrait in the garden
    grandparents with their grandchild
    a bride and groom dancing
    wedding guests throwing confetti
    a couple walking hand in hand
    a group of friends laughing
    a woman reading a book
    a man playing the guitar
    a man with a beard and glasses
    a woman in a red dress
    a selfie in front of a mirror
    people waiting at a station
    a crowd at a concert
    a musician on a stage with coloured lights
    students in a classroom
    a teacher at a blackboard
    a meeting in an office
    somebody typing on a laptop
    a graduation ceremony
    a football match in a stadium
    a runner crossing a finish line
    a cyclist on a mountain road
    a surfer riding a wave
    a skier jumping
    people ice skating
    a swimmer in a pool
    a yoga class
    a climber on a rock face
    a tennis player serving
    a sailing boat on blue water
    a fishing boat in a harbour
    a ferry leaving the port
    kayaks on a river
    an aeroplane at the gate
    the wing of a plane above the clouds
    a hot air balloon over fields
    a steam train on a bridge
    a tram in an old town
    a subway station with people
    a yellow taxi in the city
    a red sports car
    a vintage car at the roadside
    a motorcycle leaning on a wall
    a truck on the motorway
    a traffic jam at night
    a bicycle with a basket of flowers
    a camper van by the sea
    a street in the rain with umbrellas
    skyscrapers at sunset
    a city skyline at night
    a narrow alley with laundry
    an old church with a tower
    a castle on a hill
    the ruins of a temple
    a lighthouse on a cliff
    a wooden bridge over a stream
    a stone house with a garden
    a log cabin in the snow
    a modern glass building
    a staircase seen from above
    a living room with a fireplace
    a bedroom with a large window
    a kitchen with white cupboards
    a bathroom with blue tiles
    bookshelves full of books
    a desk with two monitors
    a bunch of keys on a table
    a pair of running shoes
    a leather handbag
    a blue shirt on a hanger
    a wrist watch
    a pair of sunglasses on sand
    a mobile phone in a hand
    a page of handwritten notes
    a receipt
    a screenshot of a website
    a map
    a chart with coloured bars
    a street sign
    a menu on a blackboard
    a painting in a museum
    a statue in a square
    graffiti on a brick wall
    fireworks over a river
    a Christmas tree with presents
    a carved pumpkin
    Easter eggs in a nest
    balloons at a party
    a snowman in the garden
    a waterfall in the jungle
    a mountain lake with reflections
    snowy mountains under a clear sky
    a path through an autumn forest
    fog between fir trees
    a field of lavender
    a meadow full of wild flowers
    a single tree on a hill
    a desert with sand dunes
    palm trees on a tropical beach
    waves breaking on rocks
    a sunset over the sea
    a starry sky with the milky way
    the full moon above roofs
    lightning in a dark sky
    a rainbow after the rain
    clouds seen from a plane
    an empty road through the desert
    a farm with a windmill
    vineyards in the evening light
    a garden with roses
    a potted plant by the window
    a cactus in bloom
    mushrooms on the forest floor
    frost on a leaf
    drops of water on glass
    a close-up of an eye
    hands holding a small bird
    a blurred photo
    a black and white portrait
    a drawing by a child
    """.strip().splitlines()
)
"""Short English captions of many subjects, all different."""
