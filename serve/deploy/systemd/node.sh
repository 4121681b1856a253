#!/bin/sh
# Ray on a machine of one's own, until any part of it dies; who watches over it starts it again (raycommend@.service).
#   node.sh head         keeps what it knows of the cluster in RocksDB (RAY_gcs_storage_path, or var/ray of the home),
#                        or where RAY_REDIS_ADDRESS says, so that another head goes on with the cluster
#   node.sh HEAD         a worker, which joins the head at that address
set -eu
cd "$HOME/raycommend"
export PATH="$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD" RAYCOMMEND_HOME="$PWD/var" RAY_AUTH_MODE=token
set -a
. "$HOME/.raycommend.env"
set +a
variables=$(python -m serve.environment --cluster)
eval "$variables"
if [ "$1" != head ]; then
    exec ray start --address="$1:6379" --disable-usage-stats --block
fi
if [ -z "${RAY_REDIS_ADDRESS:-}" ]; then
    export RAY_gcs_storage=rocksdb RAY_gcs_storage_path="${RAY_gcs_storage_path:-$PWD/var/ray}"
    mkdir -p "$RAY_gcs_storage_path"
fi
exec ray start --head --port=6379 --num-cpus=0 --dashboard-host=127.0.0.1 --disable-usage-stats --block
