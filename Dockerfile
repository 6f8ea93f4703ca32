# Images for an unprivileged user and a root file system that is read-only:
#
#   docker build --target service -t secondpass-service:0.1.0 .   asks engines over HTTP; small, no torch
#   docker build --target vllm -t secondpass-vllm:0.1.0 .         has the engine in process; CUDA
#   docker build --target cpu -t secondpass-cpu:0.1.0 .           has vLLM's build for CPUs and a small model; for trying out
#   docker build --target router -t secondpass-router:0.1.0 .     vllm-router, which spreads calls over vLLM pods
#
# docs/operations/images.md describes them. `make pin-base` adds digests to the tags of the base images.

ARG PYTHON_IMAGE=python:3.12-slim-bookworm
ARG VLLM_IMAGE=vllm/vllm-openai:v0.32.0

FROM ${PYTHON_IMAGE} AS base

# Builds the wheel and writes the bills of materials; no image contains it.
FROM base AS build
WORKDIR /src
COPY requirements/build.txt requirements/
RUN python -m venv --without-pip /opt/build \
    && pip --python /opt/build/bin/python install --no-cache-dir --only-binary=:all: --require-hashes -r requirements/build.txt

FROM build AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY secondpass secondpass/
COPY strategies strategies/
COPY service service/
# The bills of materials are for what pyproject.toml describes. Their tool leaves out a dynamic version, so it is written there.
RUN pip --python /opt/build/bin/python wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
    && wheel=$(basename /dist/*.whl) \
    && version=${wheel#*-} \
    && sed "s/^dynamic = .*/version = \"${version%%-*}\"/" pyproject.toml > /dist/pyproject.toml

# What changes seldom is a layer of its own, which a new version of the service leaves as it is.
FROM base AS dependencies
WORKDIR /src
COPY requirements/service.txt requirements/
# Modules are compiled here, since nothing can be written later: importing sympy uncompiled takes seconds.
RUN python -m venv --without-pip /opt/secondpass \
    && pip --python /opt/secondpass/bin/python install --no-cache-dir --only-binary=:all: --compile --require-hashes -r requirements/service.txt

# Only what the engine's image lacks, installed apart for the bill of materials, which lists it and the service.
FROM build AS vllm-added
WORKDIR /src
COPY requirements/vllm.txt requirements/
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    python -m venv --without-pip /opt/added \
    && pip --python /opt/added/bin/python install --no-cache-dir --only-binary=:all: --no-deps --require-hashes -r requirements/vllm.txt \
    && pip --python /opt/added/bin/python install --no-cache-dir --no-deps --no-index /dist/*.whl \
    && mkdir -p /opt/secondpass/share \
    && cp requirements/vllm.txt /opt/secondpass/share/requirements.txt \
    && /opt/build/bin/cyclonedx-py environment --pyproject /dist/pyproject.toml --output-reproducible --output-file /opt/secondpass/share/secondpass.cdx.json /opt/added/bin/python

FROM base AS cpu-dependencies
# torch's wheel for CPUs is on an index of its own, which pip is configured for or which this argument names;
# "Installation" at docs.vllm.ai has its address. requirements/cpu.txt lacks it.
ARG PIP_EXTRA_INDEX_URL
WORKDIR /src
COPY requirements/cpu.txt requirements/
# --no-deps: torchvision, torchaudio and torchcodec are left out. Text models need none, and they do not fit this torch.
RUN python -m venv --without-pip /opt/secondpass \
    && pip --python /opt/secondpass/bin/python install --no-cache-dir --only-binary=:all: --no-deps --compile --require-hashes -r requirements/cpu.txt \
    && pip --python /opt/secondpass/bin/python install --no-cache-dir --only-binary=:all: --no-deps --compile torch==2.13.0+cpu

# Made as its owner's alone, but every user may run the image.
FROM cpu-dependencies AS model
WORKDIR /src
COPY tools/__init__.py tools/cache.py tools/fetch_model.py tools/
RUN /opt/secondpass/bin/python -m ensurepip \
    && TOOLS_CACHE=/tmp/fetched /opt/secondpass/bin/python -m tools.fetch_model \
    && mv /tmp/fetched/models/* /opt/secondpass-model \
    && chmod -R a+rX /opt/secondpass-model

FROM build AS router-dependencies
WORKDIR /src
COPY requirements/router.txt requirements/
RUN python -m venv --without-pip /opt/router \
    && pip --python /opt/router/bin/python install --no-cache-dir --only-binary=:all: --compile --require-hashes -r requirements/router.txt \
    && mkdir -p /opt/router/share \
    && /opt/build/bin/cyclonedx-py environment --output-reproducible --output-file /opt/router/share/router.cdx.json /opt/router/bin/python

# The engine's own image rather than its wheels on a slim one: its kernels are partly compiled when they are first used,
# which takes the compilers and the CUDA headers that this image has and that no wheel brings.
FROM ${VLLM_IMAGE} AS vllm
COPY --from=vllm-added /opt/secondpass/share /opt/secondpass/share
# Nothing of the image is replaced: what the lock lacks must be there in a version that fits, or the build ends here.
# So does it where the engine is not the version that the extra pins.
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    uv pip install --system --no-cache --only-binary :all: --no-deps --require-hashes -r /opt/secondpass/share/requirements.txt \
    && uv pip install --system --no-cache --no-index /dist/*.whl \
    && uv pip install --system --no-cache --no-index --no-deps vllm==0.32.0
# The caches of the model hub, of Triton, of torch and of CUDA are below HOME. USER is what torch names its cache after
# when the user that the container runs as is in no list of users. DO_NOT_TRACK is for vLLM's reports of usage.
ENV HOME=/tmp \
    USER=secondpass \
    DO_NOT_TRACK=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SECONDPASS_HOST=0.0.0.0
LABEL org.opencontainers.image.title="secondpass with vLLM" \
      org.opencontainers.image.description="Makes a language model check and correct its own work; the engine is in process" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 2000:2000
EXPOSE 8000
STOPSIGNAL SIGTERM
# It listens only when the model is loaded.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m --retries=3 \
    CMD ["python3", "-I", "-c", "import os, sys; from http.client import HTTPConnection as C; c = C('127.0.0.1', int(os.environ.get('SECONDPASS_PORT', '8000')), timeout=3); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["secondpass"]
CMD ["serve"]

FROM base AS cpu
# The kernels are linked against it.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=cpu-dependencies /opt/secondpass /opt/secondpass
COPY --from=model /opt/secondpass-model /opt/secondpass-model
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    --mount=type=bind,from=build,source=/opt/build,target=/opt/build \
    pip --python /opt/secondpass/bin/python install --no-cache-dir --no-index --compile /dist/*.whl \
    && mkdir -p /opt/secondpass/share \
    && /opt/build/bin/cyclonedx-py environment --pyproject /dist/pyproject.toml --output-reproducible --output-file /opt/secondpass/share/secondpass.cdx.json /opt/secondpass/bin/python
# Caches are below HOME, and USER is there for torch, as in the image with CUDA. The model is in the image: no hub is asked.
# 2 GiB for the KV cache are plenty for a small model; by default vLLM takes half of the memory.
ENV PATH=/opt/secondpass/bin:$PATH \
    HOME=/tmp \
    USER=secondpass \
    DO_NOT_TRACK=1 \
    HF_HUB_OFFLINE=1 \
    VLLM_CPU_KVCACHE_SPACE=2 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SECONDPASS_HOST=0.0.0.0
LABEL org.opencontainers.image.title="secondpass with vLLM for CPUs" \
      org.opencontainers.image.description="Makes a language model check and correct its own work; a small model on CPUs, for trying out" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 2000:2000
EXPOSE 8000
STOPSIGNAL SIGTERM
# It listens only when the model is loaded.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m --retries=3 \
    CMD ["python3", "-I", "-c", "import os, sys; from http.client import HTTPConnection as C; c = C('127.0.0.1', int(os.environ.get('SECONDPASS_PORT', '8000')), timeout=3); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["secondpass"]
CMD ["serve"]

FROM base AS router
COPY --from=router-dependencies /opt/router /opt/router
ENV PATH=/opt/router/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title="vllm-router" \
      org.opencontainers.image.description="Spreads calls over vLLM pods so that those of one session meet the same prefix cache" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 2000:2000
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python3", "-I", "-c", "import sys; from http.client import HTTPConnection as C; c = C('127.0.0.1', 8000, timeout=3); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["vllm-router"]
# Its own default is port 30000 and no worker: add --worker-urls or --service-discovery.
CMD ["--host", "0.0.0.0", "--port", "8000"]

# The last one is what is built without --target.
FROM base AS service
COPY --from=dependencies /opt/secondpass /opt/secondpass
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    --mount=type=bind,from=build,source=/opt/build,target=/opt/build \
    pip --python /opt/secondpass/bin/python install --no-cache-dir --no-index --compile /dist/*.whl \
    && mkdir -p /opt/secondpass/share \
    && /opt/build/bin/cyclonedx-py environment --pyproject /dist/pyproject.toml --output-reproducible --output-file /opt/secondpass/share/secondpass.cdx.json /opt/secondpass/bin/python
ENV PATH=/opt/secondpass/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SECONDPASS_HOST=0.0.0.0
LABEL org.opencontainers.image.title="secondpass" \
      org.opencontainers.image.description="Makes a language model check and correct its own work; engines are asked over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 2000:2000
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python3", "-I", "-c", "import os, sys; from http.client import HTTPConnection as C; c = C('127.0.0.1', int(os.environ.get('SECONDPASS_PORT', '8000')), timeout=3); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["secondpass"]
CMD ["serve"]
