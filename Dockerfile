# Images for an unprivileged user and a read-only root file system:
#
#   docker build --target service -t secondpass-service:0.1.0 .   calls engines over HTTP; small, no torch
#   docker build --target vllm -t secondpass-vllm:0.1.0 .         runs the engine in process; CUDA
#   docker build --target cpu -t secondpass-cpu:0.1.0 .           CPU build of vLLM and a small model; for trials
#   docker build --target router -t secondpass-router:0.1.0 .     vllm-router, which distributes calls over vLLM pods
#
# docs/operations/images.md describes them. `make pin-base` adds digests to the tags of the base images.

ARG PYTHON_IMAGE=python:3.12-slim-bookworm
ARG VLLM_IMAGE=vllm/vllm-openai:v0.32.0

FROM ${PYTHON_IMAGE} AS base

# Build stage: the wheel and the bills of materials. No image contains it.
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
# The bills of materials describe pyproject.toml. The tool omits a dynamic version, so the version is inserted.
RUN pip --python /opt/build/bin/python wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
    && wheel=$(basename /dist/*.whl) \
    && version=${wheel#*-} \
    && sed "s/^dynamic = .*/version = \"${version%%-*}\"/" pyproject.toml > /dist/pyproject.toml

# Dependencies are a separate layer: a new version of the service does not change it.
FROM base AS dependencies
WORKDIR /src
COPY requirements/service.txt requirements/
# Compile modules now, since the file system is read-only later. Importing uncompiled modules takes seconds.
RUN python -m venv --without-pip /opt/secondpass \
    && pip --python /opt/secondpass/bin/python install --no-cache-dir --only-binary=:all: --compile --require-hashes -r requirements/service.txt

# Packages that the engine's image lacks, installed separately: the bill of materials lists them and the service.
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
# The CPU wheels of torch are on a separate index, set in pip's configuration or by the first argument.
# "Installation" at docs.vllm.ai has its address. requirements/cpu.txt does not list torch. The second argument is the
# SHA-256 of the wheel for this version of Python. Without it the build fails, and pip prints the one of the index.
ARG PIP_EXTRA_INDEX_URL
ARG TORCH_SHA256
WORKDIR /src
COPY requirements/cpu.txt requirements/
# --no-deps omits torchvision, torchaudio and torchcodec. Text models do not need them, and they do not match this torch.
RUN python -m venv --without-pip /opt/secondpass \
    && pip --python /opt/secondpass/bin/python install --no-cache-dir --only-binary=:all: --no-deps --compile --require-hashes -r requirements/cpu.txt \
    && echo "torch==2.13.0+cpu --hash=sha256:${TORCH_SHA256}" > requirements/torch.txt \
    && pip --python /opt/secondpass/bin/python install --no-cache-dir --only-binary=:all: --no-deps --compile --require-hashes -r requirements/torch.txt

# The folder is created with access for its owner only, but any user may run the image.
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

# vLLM's own image instead of its wheels on a slim image: some kernels are compiled on first use. That requires
# compilers and CUDA headers, which wheels do not contain.
FROM ${VLLM_IMAGE} AS vllm
COPY --from=vllm-added /opt/secondpass/share /opt/secondpass/share
# No package of the image is replaced. The build fails here if a package outside the lock is missing or has an
# unsuitable version, or if the engine's version is not the one that the extra pins.
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    uv pip install --system --no-cache --only-binary :all: --no-deps --require-hashes -r /opt/secondpass/share/requirements.txt \
    && uv pip install --system --no-cache --no-index /dist/*.whl \
    && uv pip install --system --no-cache --no-index --no-deps vllm==0.32.0
# The caches of the model hub, Triton, torch and CUDA are below HOME. torch names its cache after USER if the
# container's user has no passwd entry. DO_NOT_TRACK disables vLLM's usage reports.
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
# The server listens once the model is loaded.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m --retries=3 \
    CMD ["python3", "-I", "-c", "import os, sys; from http.client import HTTPConnection as C; c = C('127.0.0.1', int(os.environ.get('SECONDPASS_PORT', '8000')), timeout=3); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["secondpass"]
CMD ["serve"]

FROM base AS cpu
# vLLM's kernels are linked against this library.
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
# HOME and USER as in the CUDA image. The model is in the image, so no hub is needed. 2 GiB of KV cache are enough
# for a small model; by default vLLM takes half of the memory.
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
# The server listens once the model is loaded.
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
# vllm-router's defaults are port 30000 and no workers: add --worker-urls or --service-discovery.
CMD ["--host", "0.0.0.0", "--port", "8000"]

# The last stage is the default target.
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
