"""The coordinator's HTTP: three servers from one set of rooms.

app.py puts the three servers' apps together: main, monitor, and the listener for jobs.
asgi.py takes a request in and sends an answer out; router.py finds whose work it is; guard.py
turns away what is not for us; body.py reads strict JSON; connection.py watches one connection.
seed.py answers the seed's /r and /q, job_listener.py the jobs' own calls, native/ answers /v1 and
describes it in an OpenAPI document made from the same table of routes.
page.py serves the monitor's plain page; needs.py says what all of them need of the coordinator.
"""
