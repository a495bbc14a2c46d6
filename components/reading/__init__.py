"""Reading the files of users: how a file is laid out, and what a cell of it is: a text, a number, a time.

One reader for bars, sectors and slow tables.
"""
