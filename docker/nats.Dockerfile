# The message server: one static binary. Its health check is the readiness of the services, which need the bus for it; a
# check of its own would take a second program in the image. The configuration is mounted by the compose files.
ARG BASE=scratch
FROM ${BASE}
COPY rootfs/ /
COPY --chown=65532:65532 data/ /data/
USER 65532:65532
RUN ["/service", "--version"]
ENV NATS_STORE_DIR="\"/data\""
VOLUME /data
WORKDIR /
ENTRYPOINT ["/service"]
