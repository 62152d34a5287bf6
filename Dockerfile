# Both processes in one image: usage-ingest by default, usage-worker by another command.
FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv --without-pip /venv
COPY requirements.txt requirements-dev.txt ./
RUN pip --python /venv/bin/python install --no-cache-dir --no-deps -r requirements.txt \
    && pip install --no-cache-dir --constraint requirements-dev.txt hatchling
COPY pyproject.toml README.md LICENSE ./
COPY contract contract
COPY runtime runtime
COPY preflight preflight
COPY ingest ingest
COPY worker worker
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /venv/bin/python install --no-cache-dir --no-deps dist/*.whl

FROM python:3.13-slim
LABEL org.opencontainers.image.title="usage-ingest" \
      org.opencontainers.image.description="Usage metering: HTTP to RabbitMQ to MongoDB" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
CMD ["usage-ingest"]
