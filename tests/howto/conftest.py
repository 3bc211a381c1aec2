"""The projects of the how-tos have tests of their own, which run on services of their own."""

collect_ignore = ["bakery"]
