# The image that trains. The machine needs nothing but a driver and the NVIDIA Container Toolkit for
# GPUs: torch brings CUDA with it, which makes the image large. Without a GPU it trains on the CPU.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS python
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/*


FROM python AS packages
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv --without-pip /opt/venv
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY docker/requirements/train.txt /tmp/
RUN python3 -m pip --python /opt/venv install --require-hashes --only-binary :all: -r /tmp/train.txt


FROM python
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin person-search \
    && install -d -o person-search -g person-search -m 700 /runs
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/program \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages /opt/venv /opt/venv
COPY models /opt/program/models
COPY indexer /opt/program/indexer
COPY service /opt/program/service
USER person-search
VOLUME /runs
WORKDIR /runs
ENTRYPOINT ["python", "-m", "service.train"]
