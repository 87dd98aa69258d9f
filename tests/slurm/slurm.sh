#!/usr/bin/env bash
# A real one-node Slurm with accounting, for tests: slurmctld, slurmd, slurmdbd, MariaDB and munge from Debian's
# packages, every file and port of its own, so that a Slurm of the machine is not disturbed.
#
#   slurm.sh up       bring it up (safe to repeat) and print the shell lines that point the Slurm commands to it
#   slurm.sh status   the node, the partitions and the jobs; exit 1 when it is down
#   slurm.sh down     cancel what runs, stop the daemons, remove the files
#   slurm.sh test     up, the tests marked `slurm`, down
#
# One node (at least 4 cores and 64 GB, pretended on smaller machines), partitions cpu (default) and gpu, one pretended
# GPU (/dev/null).
# Exit status 77: it cannot be brought up here, and the last line says why.
set -euo pipefail

STATE=${POLYCENTRIC_SLURM:-/tmp/polycentric-slurm}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PACKAGES=(slurm-wlm slurmdbd mariadb-server munge)
DAEMONS=(slurmd slurmctld slurmdbd mariadbd munged)
export PATH="$PATH:/usr/sbin:/sbin"

cannot() {
    echo "no Slurm here: $*" >&2
    exit 77
}

install_packages() {
    local missing=() program
    for program in slurmctld slurmd slurmdbd mariadbd mariadb-install-db munged sacctmgr sbatch; do
        command -v "$program" > /dev/null || missing+=("$program")
    done
    [ ${#missing[@]} -eq 0 ] && return
    command -v apt-get > /dev/null || cannot "${missing[*]} missing, and there is no apt-get to install ${PACKAGES[*]}"
    echo "installing ${PACKAGES[*]}" >&2
    # The packages' own services must not start: only what this script starts may run.
    local guard=""
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        guard=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' > "$guard"
        chmod 755 "$guard"
    fi
    local log
    log=$(mktemp)
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${PACKAGES[@]}"; } \
        > "$log" 2>&1 < /dev/null; then
        [ -z "$guard" ] || rm -f "$guard"
        tail -n 5 "$log" >&2
        rm -f "$log"
        cannot "apt-get could not install ${PACKAGES[*]}"
    fi
    [ -z "$guard" ] || rm -f "$guard"
    rm -f "$log"
}

free_ports() { # $1 ports that nothing listens on
    python3 -c '
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for item in sockets:
    item.bind(("127.0.0.1", 0))
print(*(item.getsockname()[1] for item in sockets))' "$1"
}

until_true() { # $1 seconds, then a command
    local deadline=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.2
    done
}

alive() { # is the daemon $1 of this Slurm running?
    local pid
    pid=$(cat "$STATE/run/$1.pid" 2> /dev/null) && [ -n "$pid" ] && kill -0 "$pid" 2> /dev/null
}

failed() {
    echo "$1 did not come up; the end of its log:" >&2
    tail -n 15 "$STATE/log/$1.log" >&2 || true
    stop
    cannot "$1 did not come up"
}

configure() {
    local host cpus memory dbport dbdport ctldport dport cgroup version
    host=$(hostname -s)
    # Rules ask for what real studies need; small machines pretend to have it, since nothing here enforces limits.
    cpus=$(nproc)
    [ "$cpus" -ge 4 ] || cpus=4
    memory=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    [ "$memory" -ge 65536 ] || memory=65536
    read -r dbport dbdport ctldport dport < <(free_ports 4)
    # Since 23.11 control groups are switched off by name; before, by not mounting them.
    version=$(slurmctld -V | awk '{print $2}')
    cgroup="CgroupAutomount=no"
    [ "$(printf '%s\n23.11\n' "$version" | sort -V | head -n 1)" = 23.11 ] && cgroup="CgroupPlugin=disabled"

    mkdir -p "$STATE"/{etc,run,log,spool,state,db,bin}
    chmod 755 "$STATE" "$STATE/run"
    echo "$dbport" > "$STATE/run/dbport"
    dd if=/dev/urandom of="$STATE/etc/munge.key" bs=1024 count=1 status=none
    chmod 400 "$STATE/etc/munge.key"
    echo "$cgroup" > "$STATE/etc/cgroup.conf"
    echo "Name=gpu File=/dev/null" > "$STATE/etc/gres.conf"
    cat > "$STATE/etc/slurmdbd.conf" << END
AuthType=auth/munge
AuthInfo=socket=$STATE/run/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$dbdport
SlurmUser=root
LogFile=$STATE/log/slurmdbd.log
PidFile=$STATE/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$dbport
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
END
    chmod 600 "$STATE/etc/slurmdbd.conf"
    cat > "$STATE/etc/slurm.conf" << END
ClusterName=polycentric
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$STATE/run/munge.socket
CredType=cred/munge
SlurmctldPort=$ctldport
SlurmdPort=$dport
SlurmctldPidFile=$STATE/run/slurmctld.pid
SlurmdPidFile=$STATE/run/slurmd.pid
SlurmctldLogFile=$STATE/log/slurmctld.log
SlurmdLogFile=$STATE/log/slurmd.log
StateSaveLocation=$STATE/state
SlurmdSpoolDir=$STATE/spool
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0
ReturnToService=2
KillWait=5
MinJobAge=300
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePass=$STATE/run/munge.socket
AccountingStoragePort=$dbdport
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory Gres=gpu:1 State=UNKNOWN
PartitionName=cpu Nodes=$host Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=$host MaxTime=INFINITE State=UP
END
    # Snakemake's job step plugin removes SLURM_* from the environment of srun, SLURM_CONF with it.
    cat > "$STATE/bin/srun" << END
#!/bin/sh
SLURM_CONF=$STATE/etc/slurm.conf exec $(command -v srun) "\$@"
END
    chmod 755 "$STATE/bin/srun"
}

start() {
    munged --force --socket="$STATE/run/munge.socket" --key-file="$STATE/etc/munge.key" \
        --pid-file="$STATE/run/munged.pid" --log-file="$STATE/log/munged.log" --seed-file="$STATE/run/munged.seed" \
        > "$STATE/log/munged.out" 2>&1 || failed munged

    mariadb-install-db --no-defaults --user=root --datadir="$STATE/db" --auth-root-authentication-method=normal \
        --skip-test-db > "$STATE/log/mariadb-install.log" 2>&1 || failed mariadb-install
    local socket="$STATE/run/mariadbd.socket"
    setsid mariadbd --no-defaults --user=root --datadir="$STATE/db" --socket="$socket" \
        --pid-file="$STATE/run/mariadbd.pid" --bind-address=127.0.0.1 --port="$(cat "$STATE/run/dbport")" \
        --innodb-buffer-pool-size=64M --innodb-log-file-size=16M --innodb-flush-log-at-trx-commit=0 \
        --skip-log-bin < /dev/null > "$STATE/log/mariadbd.log" 2>&1 &
    until_true 60 mariadb --no-defaults --socket="$socket" -e "select 1" || failed mariadbd
    mariadb --no-defaults --socket="$socket" -e "
        create database slurm;
        create user 'slurm'@'127.0.0.1' identified by 'slurm';
        create user 'slurm'@'localhost' identified by 'slurm';
        grant all on slurm.* to 'slurm'@'127.0.0.1';
        grant all on slurm.* to 'slurm'@'localhost';"

    export SLURM_CONF="$STATE/etc/slurm.conf"
    slurmdbd > "$STATE/log/slurmdbd.out" 2>&1 || failed slurmdbd
    until_true 60 sacctmgr -n show cluster || failed slurmdbd
    {
        sacctmgr -i add cluster polycentric
        sacctmgr -i add account polycentric Cluster=polycentric
        sacctmgr -i add user "$(id -un)" Account=polycentric Cluster=polycentric DefaultAccount=polycentric
    } > "$STATE/log/sacctmgr.log" 2>&1 || true
    until_true 1 account || failed sacctmgr
    slurmctld > "$STATE/log/slurmctld.out" 2>&1 || failed slurmctld
    until_true 60 scontrol ping || failed slurmctld
    slurmd > "$STATE/log/slurmd.out" 2>&1 || failed slurmd
    until_true 60 idle || failed slurmd
}

account() { sacctmgr -n -P show assoc user="$(id -un)" format=account | grep -qx polycentric; }

idle() { sinfo -h -o %t | grep -Eq "idle|mix|alloc"; }

stop() {
    [ -d "$STATE" ] || return 0
    export SLURM_CONF="$STATE/etc/slurm.conf"
    if alive slurmctld; then
        timeout 10 scancel --user="$(id -un)" > /dev/null 2>&1 || true
        until_true 15 nothing_runs || true
    fi
    local daemon pid
    for daemon in "${DAEMONS[@]}"; do
        alive "$daemon" || continue
        pid=$(cat "$STATE/run/$daemon.pid")
        kill "$pid" 2> /dev/null || true
        until_true 15 gone "$pid" || kill -9 "$pid" 2> /dev/null || true
    done
}

gone() { ! kill -0 "$1" 2> /dev/null; }

nothing_runs() { [ -z "$(squeue -h)" ]; }

up() {
    local daemon whole=yes
    for daemon in "${DAEMONS[@]}"; do alive "$daemon" || whole=no; done
    if [ "$whole" = no ]; then
        [ "$(id -u)" = 0 ] || cannot "the daemons need root"
        install_packages
        down
        configure
        start
    fi
    echo "export SLURM_CONF='$STATE/etc/slurm.conf'"
    echo "export PATH='$STATE/bin':\"\$PATH\""
}

down() {
    stop
    # Only a folder that this script made is removed.
    if [ -e "$STATE/etc/slurm.conf" ] || [ -d "$STATE/run" ]; then rm -rf "$STATE"; fi
}

status() {
    local daemon code=0
    for daemon in "${DAEMONS[@]}"; do
        if alive "$daemon"; then echo "$daemon runs"; else
            echo "$daemon is down"
            code=1
        fi
    done
    [ "$code" = 0 ] || return 1
    export SLURM_CONF="$STATE/etc/slurm.conf"
    sinfo
    squeue
}

case "${1:-}" in
    up) up ;;
    down) down ;;
    status) status ;;
    test)
        up > /dev/null
        trap down EXIT
        cd "$HERE/../.."
        python -m pytest tests/slurm -m slurm -rs
        ;;
    *)
        echo "usage: slurm.sh up|status|down|test" >&2
        exit 2
        ;;
esac
