"""What a server costs at the least: one Starlette route on uvicorn. Usage: bare_app.py PORT"""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def health(request):
    return PlainTextResponse("ok")


uvicorn.run(
    Starlette(routes=[Route("/healthz", health)]),
    port=int(sys.argv[1]),
    loop="uvloop",
    http="httptools",
    log_level="warning",
)
