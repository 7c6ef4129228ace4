# What follows is the same for every job.
set -euo pipefail
umask 077
cd /

control=$storage/.slurm/$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0} # what the nodes tell each other; for this user alone
ray_temp=/tmp/ray-$UID-$SLURM_JOB_ID
port=$((10000 + SLURM_JOB_ID % 200 * 100)) # a hundred ports below those that the system gives away (32768 on)
port_stride=${ESPALIER_PORT_STRIDE:-0}     # 100 where several nodes of Slurm are one machine
wait_seconds=900

tell() { printf '%(%H:%M:%S)T %s\n' -1 "$*"; }

# Waits until a command succeeds: await WHAT COMMAND...; fails when time is up, a node has failed, or all is to end.
await() {
    local what=$1 deadline=$((SECONDS + wait_seconds))
    shift
    until "$@"; do
        [[ -z ${asked-} ]] || return 1
        if ((SECONDS > deadline)) || [[ -e $control/failed || -e $control/ended ]]; then
            tell "$what did not come" >&2
            return 1
        fi
        sleep 1
    done
}

# Runs on every node: Ray, until the end is signalled. The first node's is the head.
node() {
    local first=$((port + SLURM_NODEID * port_stride)) ray
    local options=(
        --node-manager-port=$((first + 1)) --object-manager-port=$((first + 2)) --runtime-env-agent-port=$((first + 3))
        --dashboard-agent-grpc-port=$((first + 4)) --dashboard-agent-listen-port=$((first + 5))
        --metrics-export-port=$((first + 6)) --min-worker-port=$((first + 10)) --max-worker-port=$((first + 99))
        --num-cpus="$cpus_per_node" --num-gpus="$gpus_per_node" --object-store-memory=$((256 * 1024 * 1024))
        --disable-usage-stats --block
    )
    mkdir -m 700 "$ray_temp" 2>/dev/null || [[ -O $ray_temp && ! -L $ray_temp ]] || {
        tell "$ray_temp on $(hostname) is another user's" >&2
        touch "$control/failed"
        return 1
    }
    if ((SLURM_NODEID == 0)); then
        options+=(--head --port="$port" --dashboard-host=127.0.0.1 --dashboard-port=$((first + 7)))
        options+=(--node-ip-address="$head_address" --temp-dir="$ray_temp")
    else
        await "the head" test -e "$control/head"
        options+=(--address="$head_address:$port")
    fi
    trap : TERM # Ray has it, too, and ends; what it leaves is removed below
    ray start "${options[@]}" >"$control/ray-$SLURM_NODEID.log" 2>&1 &
    ray=$!
    until [[ -e $control/ended ]] || ! kill -0 "$ray" 2>/dev/null; do sleep 1; done
    if ! kill "$ray" 2>/dev/null; then
        tell "Ray has ended on $(hostname): $(tail -n 3 "$control/ray-$SLURM_NODEID.log")" >&2
        touch "$control/failed" # a run that goes on takes other nodes; one that waits for this node ends
    fi
    wait "$ray" || wait "$ray" || : # the first one may be ended by the signal
    rm -rf "$ray_temp"
}

head_answers() { ray health-check --address "$head_address:$port" >/dev/null 2>&1; }

all_nodes_are_there() {
    local alive
    alive=$(ray list nodes --address "http://127.0.0.1:$((port + 7))" --filter state=ALIVE --limit 10000 --format json \
        2>/dev/null | grep -o '"node_id"' | wc -l) || :
    ((alive >= SLURM_JOB_NUM_NODES))
}

# Slurm's name for this node leads to an address that the other nodes reach.
address_of_head() {
    local name
    name=$(scontrol show node --oneliner "$SLURMD_NODENAME" | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p')
    getent ahostsv4 "${name:-$SLURMD_NODENAME}" | awk 'NR == 1 { print $1 }'
}

# The time is nearly up, or the nodes are taken away: the driver saves and ends.
asked=
driver=
on_signal() {
    [[ -n $asked ]] || tell "asked to go: saving"
    asked=yes
    pass_on
}

# Once only: a second signal would end the driver at once.
pass_on() {
    if [[ -n $driver && -z ${passed_on-} ]]; then
        passed_on=yes
        kill -TERM "$driver" 2>/dev/null || :
    fi
}

finish() {
    touch "$control/ended" 2>/dev/null || :
    [[ -z ${nodes-} ]] || wait "$nodes" || :
    rm -rf "$control"
}

export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$control/token RAY_USAGE_STATS_ENABLED=0
unset RAY_AUTH_TOKEN RAY_ADDRESS RAY_API_SERVER_ADDRESS
trap on_signal TERM USR1
mkdir -p "$storage/.slurm"
rm -rf "$storage/.slurm/$SLURM_JOB_ID-"* # of an attempt that was killed
mkdir "$control"
trap finish EXIT
od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$control/token"
job >"$control/job.json"
head_address=$(address_of_head)

functions=$(declare -f tell await node)
export control ray_temp port port_stride wait_seconds head_address cpus_per_node gpus_per_node
# Ray and its workers are started without the key of W&B, which only the driver needs.
env -u WANDB_API_KEY srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    --kill-on-bad-exit=0 bash -euc "$functions; node" &
nodes=$!
await "the head" head_answers || [[ -n $asked ]]
touch "$control/head"
await "every node" all_nodes_are_there || [[ -n $asked ]]

code=75
if [[ -z $asked ]]; then
    tell "Ray is up on $SLURM_JOB_NUM_NODES nodes, its head at $head_address:$port"
    espalier run "$control/job.json" --address "$head_address:$port" --scheduled &
    driver=$!
    [[ -z $asked ]] || pass_on # a signal that came between these lines
    while true; do # a signal ends `wait`, but not the driver
        code=0
        wait "$driver" || code=$?
        kill -0 "$driver" 2>/dev/null || break
    done
fi
finish
trap - EXIT
((code != 128 + 15)) || code=75 # ended before it could listen to signals: nothing was begun
if [[ -n $asked ]] && ((code == 75)); then
    tell "queued again; the run goes on from its last checkpoint"
    scontrol requeue "$SLURM_JOB_ID" || :
fi
exit "$code"
