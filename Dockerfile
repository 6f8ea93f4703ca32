# Two images of one service, both for an unprivileged user and a root file system that is read-only:
#
#   docker build --target service -t secondpass:service .   asks engines over HTTP; small, no torch
#   docker build --target vllm -t secondpass:vllm .         has the engine in process; CUDA
#
# docs/operations.md says how to run them.

FROM python:3.12-slim-bookworm AS base

# What changes seldom is a layer of its own, which a new version of the service leaves as it is.
FROM base AS dependencies
WORKDIR /src
COPY pyproject.toml ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > requirements.txt
# Modules are compiled here, since nothing can be written later: importing sympy uncompiled takes seconds.
RUN python -m venv --without-pip /opt/secondpass \
    && pip --python /opt/secondpass/bin/python install --no-cache-dir --compile -r requirements.txt

FROM base AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY secondpass secondpass/
COPY strategies strategies/
COPY service service/
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

# The engine's own image rather than its wheels on a slim one: its kernels are partly compiled when they are first used,
# which takes the compilers and the CUDA headers that this image has and that no wheel brings.
FROM vllm/vllm-openai:v0.32.0 AS vllm
# The extra pins the engine: where the tag above and pyproject.toml part, this would install another one.
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    for wheel in /dist/*.whl; do uv pip install --system --no-cache "${wheel}[vllm]"; done
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

FROM base AS service
COPY --from=dependencies /opt/secondpass /opt/secondpass
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    pip --python /opt/secondpass/bin/python install --no-cache-dir --no-deps --compile /dist/*.whl
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
