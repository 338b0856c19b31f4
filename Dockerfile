# One image for every role: docker run headrace normalizer, docker run headrace sink postgres, docker run headrace api, …
# What changes rarely comes first: a change of our code rebuilds the last two layers, in seconds.

FROM python:3.12-slim AS packages
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
COPY requirements-image.lock /tmp/
# A machine that reaches its registries through a configuration of pip passes it as the secret `pip`.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    pip install --quiet --disable-pip-version-check --no-compile --no-deps --only-binary :all: --require-hashes \
      --prefix /packages --requirement /tmp/requirements-image.lock \
 && PYTHONPATH=/packages/lib/python3.12/site-packages pip check --disable-pip-version-check
# A third of what the wheels bring serves debuggers and compilers, or is a part of a library that nothing loads.
WORKDIR /packages/lib/python3.12/site-packages
RUN find . -type f \( -name '*.so' -o -name '*.so.[0-9]*' \) -exec strip --strip-unneeded {} + \
 && find . -type f \( -name '*.c' -o -name '*.cpp' -o -name '*.h' -o -name '*.hpp' -o -name '*.px[di]' -o -name '*.pyx' -o -name '*.pyi' \) -delete \
 && rm -rf pyarrow/tests pyarrow/include pyarrow/src pyarrow/*_flight* pyarrow/*_s3* pyarrow/libarrow_python*.so pyarrow/libarrow_python*.so.*.* greenlet/tests phonenumbers/geodata phonenumbers/carrierdata phonenumbers/tzdata phonenumbers/shortdata/region_* sqlalchemy/testing alembic/testing \
 && python -m compileall -q --invalidation-mode unchecked-hash .

FROM python:3.12-slim AS code
WORKDIR /app
COPY . .
RUN rm requirements-image.lock && python -m data.generate \
 && python -m compileall -q --invalidation-mode unchecked-hash .

FROM python:3.12-slim
# Numbers, so that a cluster which forbids root can tell without looking into the image.
RUN groupadd --gid 10001 headrace \
 && useradd --uid 10001 --gid headrace --no-create-home --home-dir /var/lib/headrace --shell /usr/sbin/nologin headrace \
 && install --directory --owner headrace --group headrace /var/lib/headrace \
 && printf '#!/bin/sh\nexec python -m cli "$@"\n' > /usr/local/bin/headrace && chmod 755 /usr/local/bin/headrace
COPY --from=packages /packages /usr/local
WORKDIR /app
COPY --from=code /app .
ENV PYTHONPATH=/app PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=131072 MALLOC_TRIM_THRESHOLD_=262144 \
    HEADRACE_HOME=/var/lib/headrace OBJECT_STORE_DIR=/var/lib/headrace/object-store \
    API_BIND=0.0.0.0 API_PORT=8000 MOCK_BIND=0.0.0.0 MOCK_PORT=5000 HEALTH_PORT=8101 WORKER_ID=auto
USER 10001:10001
EXPOSE 8000 5000
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 CMD ["python", "-m", "runtime.probe"]
ENTRYPOINT ["headrace"]
CMD ["--help"]
