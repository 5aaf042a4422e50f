# Reads "SIGNAL folder" lines until the test process is gone, then stops what it left behind.
# Folder names hold no blanks. A server that was stopped properly has no folder any more.

trap '' HUP INT QUIT TERM PIPE

# The processes of the server in folder $1.
processes() {
    grep -lsF "PG_TEST_FOLDER=$1/" /proc/[0-9]*/environ | cut -d/ -f3
}

# Sends signal $2 to the processes of the server in folder $1. A stopped one is woken: it could not
# obey otherwise.
signal() {
    for pid in $(processes "$1"); do
        kill -s "$2" "$pid"
        kill -s CONT "$pid"
    done
}

left=
while read -r signal folder; do
    left="$left $signal:$folder"
done

for entry in $left; do
    signal "${entry#*:}" "${entry%%:*}"
done

# A shell has nothing to wait on for processes that are not its children: it has to look again.
for entry in $left; do
    folder=${entry#*:}
    tries=100
    while [ -n "$(processes "$folder")" ] && [ $tries -gt 0 ]; do
        tries=$((tries - 1))
        sleep 0.1
    done
    while [ -n "$(processes "$folder")" ]; do
        signal "$folder" KILL
        sleep 0.1
    done
    rm -rf "$folder"
done
