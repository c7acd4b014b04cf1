"""Does it obey, can it judge, does choosing by imagination pay?"""
