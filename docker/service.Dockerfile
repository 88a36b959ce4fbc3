# One service, built from source, for machines that reach a registry:
#   docker build -f docker/service.Dockerfile --build-arg SERVICE=request-coordinator -t hybrid-llm/request-coordinator:local .
ARG BUILD_BASE=rust:1-bookworm
ARG RUNTIME_BASE=debian:bookworm-slim

FROM ${BUILD_BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake libclang-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG SERVICE
# A processor of the image's user is not the builder's: no native instructions beyond this baseline.
ARG RUSTFLAGS="-C target-cpu=x86-64-v3"
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --package "${SERVICE}" --bin "${SERVICE}" \
    && cp "target/release/${SERVICE}" /service && mkdir /data

FROM ${RUNTIME_BASE}
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libgomp1 libstdc++6 && rm -rf /var/lib/apt/lists/*
COPY --from=build /service /service
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
RUN ["/service", "--version"]
ENV HYBRID_NODE__DATA_DIR=/data
VOLUME /data
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=6 CMD ["/service", "--health-check"]
ENTRYPOINT ["/service"]
