# The serving image: no torch, no training code, no tests, not root.
FROM python:3.12-slim AS build

WORKDIR /src
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml README.md LICENSE ./
COPY models ./models
COPY indexer ./indexer
COPY service ./service
# What serving must never import is not there; .dockerignore keeps most of it out already.
RUN rm -rf models/nn service/train service/demo_scenes service/demo_answer.jpg \
    && find models indexer service -name tests -type d -exec rm -rf {} + \
    && pip install '.[cpu]'


FROM python:3.12-slim

RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin person-search \
    && install -d -o person-search -g person-search -m 700 /data
COPY --from=build /opt/venv /opt/venv
COPY docker/healthcheck.py /opt/healthcheck.py
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PERSON_SEARCH_HOST=0.0.0.0 \
    PERSON_SEARCH_DATA_DIR=/data \
    SQLITE_TMPDIR=/data
USER person-search
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "/opt/healthcheck.py"]
ENTRYPOINT ["python", "-m", "service"]
