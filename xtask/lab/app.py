"""The application behind gunicorn: /sleep/SECONDS answers late, /kill ends its worker as the OOM killer would."""

import os
import signal
import time


def app(environ, start_response):
    what, _, argument = environ["PATH_INFO"].lstrip("/").partition("/")
    if what == "sleep":
        time.sleep(float(argument))
    elif what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]
