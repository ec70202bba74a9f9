# An image for each environment that uv.lock resolves for itself: quantize, serve (SGLang), vllm, bench, and
# tracking (the MLflow server of compose.yaml). `make image TARGET=quantize`; more in docs/containers.md.
#
# A base needs glibc and libstdc++, nothing else: if it has no Python, uv downloads one by digest.
ARG BASE_IMAGE=docker.io/nvidia/cuda:13.0.2-base-ubuntu24.04@sha256:2ab6381d970b211fb93853796dc6707eb8a72575a375c422b17cf4d8b2641701
# SGLang and vLLM compile kernels while they run: their base has the compilers.
ARG COMPILER_IMAGE=docker.io/nvidia/cuda:13.0.2-devel-ubuntu24.04@sha256:5dc1bca23d05bd37b011be68ec470c03b403a5da07ec3a86e41af9470e9d0cc6
ARG UV_IMAGE=ghcr.io/astral-sh/uv:0.13.0@sha256:cdc6093146eb3ff6a40107b38f008b789e050e77ad87865e381d9917da55a168

FROM ${UV_IMAGE} AS uv

# What the installing steps see through mounts, and no image keeps. The lock apart: a change of code leaves the
# large layer of packages as it is.
FROM scratch AS installer
COPY --from=uv /uv /uv
COPY launch/install.sh /install.sh
FROM scratch AS lock
COPY pyproject.toml uv.lock /
FROM scratch AS project
COPY pyproject.toml uv.lock README.md LICENSE NOTICE /
COPY pipeline /pipeline
COPY conf /conf
COPY demo /demo
COPY patches /patches

FROM ${BASE_IMAGE} AS plain
ARG BASE_IMAGE
ARG PYTHON_VERSION=3.12.15
LABEL org.opencontainers.image.base.name=${BASE_IMAGE}
ENV UV_PYTHON=${PYTHON_VERSION} \
    PATH=/opt/proofcard/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 HOME=/cache XDG_CACHE_HOME=/cache LOGNAME=proofcard \
    PROOFCARD_TOOLCHAINS=/opt/toolchains \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --chmod=0755 launch/entrypoint.sh /usr/local/bin/entrypoint
RUN install -d -m 1777 -o 10001 -g 10001 /cache /data
WORKDIR /data
ENTRYPOINT ["/usr/local/bin/entrypoint"]

FROM ${COMPILER_IMAGE} AS compiling
ARG COMPILER_IMAGE
ARG PYTHON_VERSION=3.12.15
LABEL org.opencontainers.image.base.name=${COMPILER_IMAGE}
ENV UV_PYTHON=${PYTHON_VERSION} \
    PATH=/opt/proofcard/bin:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 HOME=/cache XDG_CACHE_HOME=/cache LOGNAME=proofcard \
    CUDA_HOME=/usr/local/cuda \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --chmod=0755 launch/entrypoint.sh /usr/local/bin/entrypoint
RUN install -d -m 1777 -o 10001 -g 10001 /cache /data
WORKDIR /data
ENTRYPOINT ["/usr/local/bin/entrypoint"]

# ---------------------------------------------------------------------------------------------- quantize
# quantize, verify, plan, fetch, analyse, compare, and `serve` with serving=transformers_cpu. No compiler.
FROM plain AS quantize
RUN --mount=type=bind,from=installer,target=/installer --mount=type=bind,from=lock,target=/lock \
    --mount=type=cache,target=/root/.cache/uv --mount=type=tmpfs,target=/tmp --mount=type=secret,id=ca \
    /installer/install.sh packages --extra quantize --extra tracking --extra serve-cpu --extra sign
RUN --mount=type=bind,from=installer,target=/installer --mount=type=bind,from=project,target=/project \
    --mount=type=cache,target=/root/.cache/uv --mount=type=tmpfs,target=/tmp --mount=type=secret,id=ca \
    /installer/install.sh project --extra quantize --extra tracking --extra serve-cpu --extra sign && \
    /installer/install.sh toolchains
ARG REVISION=unknown
ARG LOCK_SHA256=unknown
LABEL org.opencontainers.image.title="proofcard quantize" \
      org.opencontainers.image.description="Model cards you can prove: makes and verifies NVFP4 checkpoints" \
      org.opencontainers.image.revision=${REVISION} proofcard.uv-lock.sha256=${LOCK_SHA256}
ENV PROOFCARD_REVISION=${REVISION}
VOLUME ["/cache", "/data"]
USER 10001:10001
CMD ["quantize", "--help"]

# ------------------------------------------------------------------------------------------------- serve
FROM compiling AS serve
RUN --mount=type=bind,from=installer,target=/installer --mount=type=bind,from=lock,target=/lock \
    --mount=type=cache,target=/root/.cache/uv --mount=type=tmpfs,target=/tmp --mount=type=secret,id=ca \
    /installer/install.sh packages --extra serve --extra tracking
RUN --mount=type=bind,from=installer,target=/installer --mount=type=bind,from=project,target=/project \
    --mount=type=cache,target=/root/.cache/uv --mount=type=tmpfs,target=/tmp --mount=type=secret,id=ca \
    /installer/install.sh project --extra serve --extra tracking
ARG REVISION=unknown
ARG LOCK_SHA256=unknown
LABEL org.opencontainers.image.title="proofcard serve" \
      org.opencontainers.image.description="Model cards you can prove: serves NVFP4 checkpoints with SGLang" \
      org.opencontainers.image.revision=${REVISION} proofcard.uv-lock.sha256=${LOCK_SHA256}
ENV PROOFCARD_REVISION=${REVISION}
VOLUME ["/cache", "/data"]
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=30m --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=8)"]
CMD ["serve", "--help"]

# -------------------------------------------------------------------------------------------------- vllm
FROM compiling AS vllm
RUN --mount=type=bind,from=installer,target=/installer --mount=type=bind,from=lock,target=/lock \
    --mount=type=cache,target=/root/.cache/uv --mount=type=tmpfs,target=/tmp --mount=type=secret,id=ca \
    /installer/install.sh packages --extra vllm --extra tracking
RUN --mount=type=bind,from=installer,target=/installer --mount=type=bind,from=project,target=/project \
    --mount=type=cache,target=/root/.cache/uv --mount=type=tmpfs,target=/tmp --mount=type=secret,id=ca \
    /installer/install.sh project --extra vllm --extra tracking
ARG REVISION=unknown
ARG LOCK_SHA256=unknown
LABEL org.opencontainers.image.title="proofcard vllm" \
      org.opencontainers.image.description="Model cards you can prove: serves NVFP4 checkpoints with vLLM" \
      org.opencontainers.image.revision=${REVISION} proofcard.uv-lock.sha256=${LOCK_SHA256}
ENV PROOFCARD_REVISION=${REVISION}
VOLUME ["/cache", "/data"]
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=30m --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=8)"]
CMD ["serve", "--help"]

# ------------------------------------------------------------------------------------------------- bench
FROM plain AS bench
RUN --mount=type=bind,from=installer,target=/installer --mount=type=bind,from=lock,target=/lock \
    --mount=type=cache,target=/root/.cache/uv --mount=type=tmpfs,target=/tmp --mount=type=secret,id=ca \
    /installer/install.sh packages --extra bench --extra tracking
RUN --mount=type=bind,from=installer,target=/installer --mount=type=bind,from=project,target=/project \
    --mount=type=cache,target=/root/.cache/uv --mount=type=tmpfs,target=/tmp --mount=type=secret,id=ca \
    /installer/install.sh project --extra bench --extra tracking
ARG REVISION=unknown
ARG LOCK_SHA256=unknown
LABEL org.opencontainers.image.title="proofcard bench" \
      org.opencontainers.image.description="Model cards you can prove: measures endpoints" \
      org.opencontainers.image.revision=${REVISION} proofcard.uv-lock.sha256=${LOCK_SHA256}
ENV PROOFCARD_REVISION=${REVISION}
VOLUME ["/cache", "/data"]
USER 10001:10001
CMD ["benchmark", "--help"]

# ---------------------------------------------------------------------------------------------- tracking
FROM plain AS tracking
RUN --mount=type=bind,from=installer,target=/installer --mount=type=bind,from=lock,target=/lock \
    --mount=type=cache,target=/root/.cache/uv --mount=type=tmpfs,target=/tmp --mount=type=secret,id=ca \
    /installer/install.sh packages --extra tracking --extra tracking-server
COPY --chmod=0755 mlflow/server.sh mlflow/basic_auth.ini /opt/mlflow/
ARG REVISION=unknown
ARG LOCK_SHA256=unknown
LABEL org.opencontainers.image.title="proofcard tracking" \
      org.opencontainers.image.description="Model cards you can prove: the MLflow server" \
      org.opencontainers.image.revision=${REVISION} proofcard.uv-lock.sha256=${LOCK_SHA256}
VOLUME ["/cache", "/data"]
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:5000/health', timeout=4)"]
CMD ["/opt/mlflow/server.sh"]
