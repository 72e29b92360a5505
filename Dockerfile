# One image, both roles: `edgecache serve …` (a POP) or `edgecache-origin serve …` (a data centre).
# The build stage has the compiler; the image that ships has Python, ffmpeg and the wheels.
FROM debian:12-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev python3 python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements requirements
RUN python3 -m venv /app \
 && /app/bin/pip install --no-cache-dir --require-hashes -r requirements/run.txt
COPY . .
RUN /app/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && /app/bin/pip uninstall --yes cython setuptools pip

FROM debian:12-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ffmpeg fonts-dejavu-core python3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --no-create-home --shell /usr/sbin/nologin edgecache
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1
USER edgecache
# Viewers, RTMP, push, SRT. The admin listener stays on loopback, for the health check below.
EXPOSE 8080 1935 8082 9000/udp
STOPSIGNAL SIGTERM
ENV HEALTH_URL=http://127.0.0.1:8081/readyz
HEALTHCHECK --interval=5s --timeout=2s --start-period=10s \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen(os.environ['HEALTH_URL'], timeout=1)"]
CMD ["edgecache", "serve", "-c", "/etc/edgecache/edge.toml"]
