"""The live half of Sightline: a query goes in, the nearest pictures come out."""
