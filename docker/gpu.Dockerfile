# local-model-pool with CUDA, built from source, for machines that reach a registry; every other service is the same with
# and without a GPU (docker/service.Dockerfile):
#   docker build -f docker/gpu.Dockerfile -t hybrid-llm/local-model-pool:local .
# The driver comes from the host: GPU_RUNTIME=nvidia in .env.
ARG BUILD_BASE=nvidia/cuda:12.4.1-devel-ubuntu22.04
ARG RUNTIME_BASE=nvidia/cuda:12.4.1-runtime-ubuntu22.04

FROM ${BUILD_BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates cmake curl g++ git libclang-dev && rm -rf /var/lib/apt/lists/*
ARG RUST_VERSION=stable
RUN curl -fsSL --proto '=https' https://sh.rustup.rs | sh -s -- -y -q --profile minimal --default-toolchain "${RUST_VERSION}"
ENV PATH=/root/.cargo/bin:${PATH}
WORKDIR /src
COPY . .
ARG SERVICE=local-model-pool
# A processor of the image's user is not the builder's: no native instructions beyond this baseline.
ARG RUSTFLAGS="-C target-cpu=x86-64-v3"
# The cards to compile for: 86 RTX 30, 89 RTX 40, 90 H100 and H200.
ARG CMAKE_CUDA_ARCHITECTURES="86;89;90"
# The compiler of this image has the driver's interface as a stub only.
RUN --mount=type=cache,target=/root/.cargo/registry --mount=type=cache,target=/src/target \
    LIBRARY_PATH=/usr/local/cuda/lib64/stubs \
    cargo build --release --locked --package "${SERVICE}" --features cuda --bin "${SERVICE}" \
    && cp "target/release/${SERVICE}" /service && mkdir /data

FROM ${RUNTIME_BASE}
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libgomp1 && rm -rf /var/lib/apt/lists/*
COPY --from=build /service /service
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
# No smoke test here: a CUDA program starts only where libcuda.so.1 is, and that comes with the host's driver.
ENV HYBRID_NODE__DATA_DIR=/data
VOLUME /data
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=6 CMD ["/service", "--health-check"]
ENTRYPOINT ["/service"]
