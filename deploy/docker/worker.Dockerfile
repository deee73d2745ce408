# The image of the workers: everything of the small one, with torch and torchvision.
#   docker build -f deploy/docker/worker.Dockerfile -t hpbandster-lite:worker .
ARG BASE=python:3.11-slim
FROM ${BASE}

# An environment of its own: Debian's Python, where that is the base, lets nobody install beside it.
ENV VIRTUAL_ENV=/opt/hpbandster-lite
ENV PATH=/opt/hpbandster-lite/bin:$PATH PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The two folders are open to whichever user a container runs as; a run directory below is its owner's alone.
RUN python3 -m venv "$VIRTUAL_ENV" && mkdir -m 1777 /search /scratch
# Another index beside PyPI, for example that of torch's builds for the CPU alone, or a mirror.
ARG PIP_EXTRA_INDEX_URL

# What takes long first, the code last: a changed line of code does not install the libraries again.
WORKDIR /opt/sources
COPY setup.cfg pyproject.toml constraints.txt deploy/docker/pins.txt deploy/docker/requirements.py ./
RUN python3 requirements.py torch > requirements.txt \
    && pip install -c constraints.txt -c pins.txt -r requirements.txt setuptools
COPY README.md LICENSE ./
COPY deploy/slurm deploy/slurm
COPY nameserver nameserver
COPY workers workers
COPY hpbandster_lite hpbandster_lite
RUN pip install --no-deps --no-build-isolation .

WORKDIR /search
# Libraries ask for a home and a name; a user whom only a number names has neither. A worker asks the driver which GPUs
# there are: that is its part "utility".
ENV HOME=/tmp LOGNAME=search NVIDIA_DRIVER_CAPABILITIES=compute,utility
# A number, because Kubernetes cannot tell from a name that it is not root.
USER 10001:10001
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="hpbandster_lite, worker" \
      org.opencontainers.image.description="Workers of a BOHB search, with torch" \
      org.opencontainers.image.licenses="BSD-3-Clause" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim"
ENTRYPOINT ["hpbandster-lite"]
CMD ["--help"]
