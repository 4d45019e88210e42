# The worker and every other command of `stillwatch`. docker build --tag stillwatch:0.1.0 .
#
# The base is pinned to an exact release of Python 3.11, the version that the tests run on. Pin it harder where you build,
# for a tag can be pushed anew: --build-arg BASE=python:3.11.13-slim-bookworm@sha256:... (the digest that you checked).
ARG BASE=python:3.11.13-slim-bookworm

FROM ${BASE} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
# Every package comes with its hash, and as a wheel: nothing of a stranger's is run to build it.
COPY requirements-build.lock requirements-image.lock ./
RUN python -m venv /build \
    && /build/bin/python -m pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements-build.lock
# Without pip: what is not there installs nothing.
RUN python -m venv --without-pip /opt/stillwatch \
    && /build/bin/python -m pip --python /opt/stillwatch/bin/python install --no-cache-dir --require-hashes \
        --only-binary :all: -r requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY models models
COPY sinks sinks
COPY streams streams
RUN /build/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /build/bin/python -m pip --python /opt/stillwatch/bin/python install --no-index --no-deps /wheels/*.whl \
    && /opt/stillwatch/bin/python -m compileall -q /opt/stillwatch/lib
# What is inside, for whoever has to know: docker run --entrypoint cat stillwatch:0.1.0 /opt/stillwatch/sbom.json
RUN /build/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
    --of JSON --output-file /opt/stillwatch/sbom.json /opt/stillwatch/bin/python

FROM ${BASE}
RUN groupadd --system --gid 10001 stillwatch \
    && useradd --system --uid 10001 --gid 10001 --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin stillwatch
COPY --from=build /opt/stillwatch /opt/stillwatch
ENV PATH=/opt/stillwatch/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STILLWATCH_WEB_HOST=0.0.0.0
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080
# Alive is enough: a worker that restores profiles is busy, not broken. Kubernetes asks by its own probes.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ.get('STILLWATCH_WEB_PORT', '8080')}/live\", timeout=4)"]
ENTRYPOINT ["stillwatch"]
CMD ["worker"]
