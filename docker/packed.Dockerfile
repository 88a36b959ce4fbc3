# A binary that was built on the host, with exactly the libraries it loads. The context is a folder that
# scripts/pack-image.sh has filled: rootfs/ (root's) and data/ (the service's own).
ARG BASE=scratch
FROM ${BASE}
COPY rootfs/ /
COPY --chown=65532:65532 data/ /data/
USER 65532:65532
# Fails here, and not on somebody's machine, when a library is missing.
RUN ["/service", "--version"]
ENV HYBRID_NODE__DATA_DIR=/data
VOLUME /data
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=6 CMD ["/service", "--health-check"]
ENTRYPOINT ["/service"]
