# The runtime as an image: `docker build -t gaugefn .`, or scripts/image, which also works without a container engine.
#
#   --build-arg VARIANT=slim            no Python packages but pip
#   --build-arg PYTHON_PACKAGES="a b"   these instead of the full list
#
# The build and the runtime stage stand on the same Debian release: the binary is linked against that release's
# libpython and refuses another one at start.
ARG RUST_IMAGE=docker.io/library/rust:1-slim-bookworm
ARG DEBIAN_IMAGE=docker.io/library/debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends python3-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
ENV PYO3_PYTHON=/usr/bin/python3

# Dependencies first, in a layer of their own that only a change of a manifest makes anew.
COPY Cargo.toml Cargo.lock build.rs ./
COPY executors/Cargo.toml executors/build.rs executors/
COPY loaders/Cargo.toml loaders/
COPY redis-link/Cargo.toml redis-link/
COPY runtime-core/Cargo.toml runtime-core/
COPY sdk/Cargo.toml sdk/
COPY sinks/Cargo.toml sinks/
COPY sources/Cargo.toml sources/
COPY stores/Cargo.toml stores/
COPY stores/codec/Cargo.toml stores/codec/
RUN --mount=type=secret,id=cargo,target=/usr/local/cargo/config.toml \
    for member in */ stores/codec/; do mkdir -p "$member/src" && touch "$member/src/lib.rs"; done \
    && mkdir -p src tests/it && echo 'fn main() {}' | tee src/main.rs >tests/it/main.rs \
    && cargo build --release --locked --bin gaugefn

COPY . .
# cargo goes by time stamps, and the copied sources may be older than the empty ones just built
RUN --mount=type=secret,id=cargo,target=/usr/local/cargo/config.toml \
    find . -path ./target -prune -o -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --bin gaugefn

# What user functions import, in a virtual environment whose pip also installs a function's own requirements.
FROM ${DEBIAN_IMAGE} AS packages
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends ca-certificates python3-venv \
    && rm -rf /var/lib/apt/lists/*
ARG VARIANT=full
ARG PYTHON_PACKAGES="redis pandas numpy icecream matplotlib requests scikit-learn tqdm psutil"
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /usr/local/lib/gaugefn/venv \
    && if [ "$VARIANT" != slim ] && [ -n "$PYTHON_PACKAGES" ]; then \
         PIP_CERT=/etc/ssl/certs/ca-certificates.crt /usr/local/lib/gaugefn/venv/bin/python -m pip install \
           --no-cache-dir --disable-pip-version-check --root-user-action=ignore $PYTHON_PACKAGES; \
       fi

FROM ${DEBIAN_IMAGE}
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends ca-certificates libpython3.11 python3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 65532 gaugefn \
    && useradd --key UID_MAX=65535 --uid 65532 --gid 65532 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin gaugefn
COPY --from=packages /usr/local/lib/gaugefn/venv /usr/local/lib/gaugefn/venv
COPY --from=build /build/target/release/gaugefn /usr/local/bin/gaugefn

# /tmp is the one writable folder where the root file system is read-only: home, and so every package's cache, is there
ENV VIRTUAL_ENV=/usr/local/lib/gaugefn/venv \
    HOME=/tmp \
    LANG=C.UTF-8 \
    GAUGEFN__ADMIN__LISTEN=0.0.0.0:9464
ARG VERSION=unknown
LABEL org.opencontainers.image.title="gaugefn" \
      org.opencontainers.image.description="A serverless function runtime: Python functions on Redis keys" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
EXPOSE 9464
USER 65532:65532
WORKDIR /tmp
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/usr/local/bin/gaugefn", "health"]
ENTRYPOINT ["/usr/local/bin/gaugefn"]
CMD ["run"]
