# Both stages need the same base, because the virtual environment links to its Python.
ARG PYTHON_IMAGE=python:3.11.15-slim-trixie

FROM ${PYTHON_IMAGE} AS build
WORKDIR /app
RUN python3 -m venv /opt/venv
COPY requirements/image.txt requirements/
# Remove files that are never loaded: headers, tests, and Arrow's Flight and S3 libraries.
RUN /opt/venv/bin/pip install --no-cache-dir --only-binary :all: --require-hashes -r requirements/image.txt \
    && /opt/venv/bin/pip uninstall --yes pip setuptools \
    && find /opt/venv \( -path '*/pyarrow/include' -o -path '*/pyarrow/*flight*' \
        -o -path '*/pyarrow/*s3*' -o -path '*/pyarrow/tests' -o -path '*/numpy/tests' -o -path '*/numpy/*/tests' \) \
        -prune -exec rm -r {} +
COPY . ./
RUN rm -r requirements \
    && /opt/venv/bin/python -m compileall -q . \
    && /opt/venv/bin/python main.py --version \
    && /opt/venv/bin/python main.py --help \
    && /opt/venv/bin/python -c "import numpy, pyarrow.parquet"

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Analytics Service" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.description="Exact, fresh answers about a platform's events."
RUN groupadd --gid 10001 analytics \
    && useradd --uid 10001 --gid analytics --no-create-home --shell /usr/sbin/nologin analytics
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ANALYTICS_HOST=0.0.0.0 \
    ANALYTICS_DATA_DIR=/tmp/analytics-service
WORKDIR /app
USER 10001:10001
EXPOSE 8000
# Liveness only: a restart does not help while PostgreSQL is unreachable, which /readyz reports.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "/app/containers/alive.py"]
ENTRYPOINT ["python", "/app/main.py"]
CMD ["serve"]
