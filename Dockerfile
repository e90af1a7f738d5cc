# The serving image. Targets: cpu (the default), gpu, and scale (cpu, and what several machines need).
# None has torch, training code, tests or a compiler; each runs as an unprivileged user, on a root file
# system that may be read-only. What is installed is locked, with hashes, in docker/requirements/
# (`make lock`). The base has the Python that the tests run on, and can be made without a registry:
# docker/build.sh.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS python
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/*


FROM python AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv --without-pip /opt/venv
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1


# What changes seldom is a layer of its own, large; what changes often is another, small.
FROM build AS cpu-packages
COPY docker/requirements/cpu.txt /tmp/
RUN python3 -m pip --python /opt/venv install --require-hashes --only-binary :all: -r /tmp/cpu.txt


FROM build AS program
COPY docker/requirements/build.txt /tmp/
RUN python3 -m pip --python /opt/venv install --require-hashes --only-binary :all: -r /tmp/build.txt
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY models ./models
COPY indexer ./indexer
COPY service ./service
# What serving must never import is not there; .dockerignore keeps most of it out already.
RUN rm -rf models/nn service/train service/demo_scenes service/demo_answer.jpg \
    && find models indexer service -name tests -type d -exec rm -rf {} + \
    && python3 -m pip --python /opt/venv install --no-deps --no-build-isolation --target /opt/program .


FROM python AS runtime
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin person-search \
    && install -d -o person-search -g person-search -m 700 /data \
    && install -d -o person-search -g person-search -m 755 /keys
COPY docker/healthcheck.py docker/start.py /opt/
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/program \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PERSON_SEARCH_HOST=0.0.0.0 \
    PERSON_SEARCH_DATA_DIR=/data \
    SQLITE_TMPDIR=/data
USER person-search
VOLUME /data /keys
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "/opt/healthcheck.py"]
ENTRYPOINT ["python", "/opt/start.py"]


FROM runtime AS cpu
COPY --from=cpu-packages /opt/venv /opt/venv
COPY --from=program /opt/program /opt/program


# CUDA and cuDNN come as packages too; the machine needs a driver for CUDA 13 (580 or newer) and the
# NVIDIA Container Toolkit. Vectors are searched by the CPU: the model is what a GPU speeds up.
FROM build AS gpu-packages
COPY docker/requirements/gpu.txt /tmp/
RUN python3 -m pip --python /opt/venv install --require-hashes --only-binary :all: -r /tmp/gpu.txt

FROM runtime AS gpu
ENV PERSON_SEARCH_DEVICE=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=gpu-packages /opt/venv /opt/venv
COPY --from=program /opt/program /opt/program


FROM build AS scale-packages
COPY docker/requirements/scale.txt /tmp/
RUN python3 -m pip --python /opt/venv install --require-hashes --only-binary :all: -r /tmp/scale.txt

FROM runtime AS scale
COPY --from=scale-packages /opt/venv /opt/venv
COPY --from=program /opt/program /opt/program


FROM cpu
