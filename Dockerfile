# The emulator as an image. "In a container" in azure-dps-emulator/docs/emulator.md describes its use.
#
#   docker build --tag azure-dps-emulator .

FROM rust:1.95-slim-bookworm AS build
ENV CARGO_PROFILE_RELEASE_STRIP=symbols
WORKDIR /src
COPY . .
RUN cargo build --locked --release --package azure-dps-emulator --bin azure-dps-emulator && mkdir /ca
RUN mkdir /notices && cargo run --locked --package xtask -- notices /notices

# The C library and the authorities of web servers, but no shell. Its user `nonroot` is 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/azure-dps-emulator /usr/local/bin/azure-dps-emulator
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/azure-dps-emulator/
COPY --from=build /notices/ /usr/share/doc/azure-dps-emulator/
# A new volume on this folder takes over its owner, so that the emulator can write to it.
COPY --from=build --chown=65532:65532 /ca /ca

# The management port stays on the loopback address, for the health check, until DPS_EMULATOR_MANAGE_HOST and
# DPS_EMULATOR_MANAGE_TOKEN are set.
ENV DPS_EMULATOR_HOST=0.0.0.0 \
    DPS_EMULATOR_STANDARD_PORTS=true \
    DPS_EMULATOR_MANAGE_PORT=8080 \
    DPS_EMULATOR_CA_DIR=/ca
# HTTPS and WebSockets, MQTT, AMQP, management.
EXPOSE 443 8883 5671 8080

USER 65532:65532
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s CMD ["/usr/local/bin/azure-dps-emulator", "health"]
ENTRYPOINT ["/usr/local/bin/azure-dps-emulator"]
