# GenDataAgent on a CPU, or with TORCH=cuda on NVIDIA GPUs. See docs/docker.md.
#
#   docker build --build-arg PIP_EXTRA_INDEX_URL=... -t gendataagent .
#   docker build --build-arg TORCH=cuda -t gendataagent:cuda .
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:${PYTHON}-slim
# cpu: PyTorch's CPU build, from the index that PIP_EXTRA_INDEX_URL names; cuda: the build of PyPI.
ARG TORCH=cpu
ARG PIP_EXTRA_INDEX_URL=
ARG EXTRAS=onnx,plots,tensorboard
COPY constraints.txt /tmp/constraints.txt
RUN version="$(sed -n 's/^torch==//p' /tmp/constraints.txt)" \
    && if [ "$TORCH" = cpu ] && [ "$(uname -m)" = x86_64 ]; then version="$version+cpu"; fi \
    && pip install --no-cache-dir "torch==$version" \
    || { echo "There is no such build of torch. TORCH=cpu needs --build-arg PIP_EXTRA_INDEX_URL=... with PyTorch's index of CPU builds (docs/docker.md)" >&2; exit 1; }
COPY --from=wheel /wheel /tmp/wheel
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt "$(ls /tmp/wheel/*.whl)[$EXTRAS]" \
    && rm -r /tmp/wheel /tmp/constraints.txt

# Writable for every user, so that `docker run --user $(id -u)` works too.
RUN useradd --uid 1000 --create-home user \
    && mkdir /data /runs /cache \
    && chmod 1777 /runs /cache
ENV HOME=/cache \
    HF_HOME=/cache/huggingface \
    GENDATAAGENT_CACHE=/cache/gendataagent \
    PYTHONUNBUFFERED=1
VOLUME ["/data", "/runs", "/cache"]
WORKDIR /runs
USER 1000
ENTRYPOINT ["gendataagent"]
CMD ["--help"]
