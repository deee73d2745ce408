# The small image, without torch: master, name server, and the commands that read a search.
#   docker build -f deploy/docker/service.Dockerfile -t hpbandster-lite:service .
ARG BASE=python:3.11-slim
FROM ${BASE}

# A virtual environment, because Debian's Python refuses other packages if Debian is the base.
ENV VIRTUAL_ENV=/opt/hpbandster-lite
ENV PATH=/opt/hpbandster-lite/bin:$PATH PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# Any user of a container may write to the two folders; a run directory below them belongs to its owner only.
RUN python3 -m venv "$VIRTUAL_ENV" && mkdir -m 1777 /search /scratch
# An index beside PyPI: a mirror, or torch's index of CPU builds.
ARG PIP_EXTRA_INDEX_URL

# Slow layers first and the code last, so that a change of the code does not install the libraries again.
WORKDIR /opt/sources
COPY setup.cfg pyproject.toml constraints.txt deploy/docker/pins.txt deploy/docker/requirements.py ./
RUN python3 requirements.py > requirements.txt \
    && pip install -c constraints.txt -c pins.txt -r requirements.txt setuptools
COPY README.md LICENSE ./
COPY deploy/slurm deploy/slurm
COPY nameserver nameserver
COPY workers workers
COPY hpbandster_lite hpbandster_lite
RUN pip install --no-deps --no-build-isolation .

WORKDIR /search
# Some libraries require a home directory and a user name, which a numeric user lacks. A worker queries the driver for
# its GPUs, which requires the capability "utility".
ENV HOME=/tmp LOGNAME=search NVIDIA_DRIVER_CAPABILITIES=compute,utility
# A numeric user, because Kubernetes cannot see from a name that the user is not root.
USER 10001:10001
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="hpbandster_lite, service" \
      org.opencontainers.image.description="Master and name server of a BOHB search" \
      org.opencontainers.image.licenses="BSD-3-Clause" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim"
ENTRYPOINT ["hpbandster-lite"]
CMD ["--help"]
