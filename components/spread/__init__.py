"""Work on many pieces at once: in this process, in processes of this machine, or on Ray.

`engines`: the map over pieces; `piece`: what a piece is and when it is finished; `attempts`: its log;
`attempt`: one attempt, wherever it runs; `local` and `on_ray`: who runs attempts; `choice`: which of them a
run uses. Ground floor. Paths and numbers go to a piece, a folder comes back: nothing else is ever sent.
"""
