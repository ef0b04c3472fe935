"""A study by several processes that share nothing but its results folder.

`units` cuts what is left of a study into parts and writes them down, `claims` says which
worker has which, `worker` does the work, `launch` starts workers and waits for them, `view` tells
how far they are. Workers keep no state: they may be killed, added and started again at any time.
"""
