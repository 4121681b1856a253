#!/bin/sh
# Ray Serve's HAProxy, made safe. Serve runs this as its HAProxy (RAY_SERVE_HAPROXY_BINARY_PATH, see serve/environment.py):
# it rewrites the configuration that Serve has just written, by haproxy.awk, and becomes HAProxy, $RAYCOMMEND_HAPROXY.
set -eu
here=$(dirname "$0") configuration='' previous='' reload=''
for argument; do
    [ "$previous" = -f ] && configuration=$argument
    [ "$argument" = -sf ] && reload=yes
    previous=$argument
done
last=${reload:+$configuration.last}
[ -z "$last" ] || [ -r "$last" ] || last=''
awk -v folder="$here" -v last="$last" -f "$here/haproxy.awk" "$configuration" > "$configuration.new"
cp "$configuration.new" "$configuration.last"
mv "$configuration.new" "$configuration"

# Ray ends an HAProxy with its manager, but not always: one that `serve run` leaves behind at a SIGTERM keeps the port. The
# next HAProxy of that port takes over from it.
folder=$(dirname "$(dirname "$configuration")")
port=$(awk '/^[a-z]/ { at = $2 } at == "http_frontend" && $1 == "bind" { sub(/.*:/, ""); print $0; exit }' "$configuration")
record=$folder/$port.pid
if [ -z "$reload" ] && [ -r "$record" ]; then
    read -r old manager < "$record"
    if tr '\0' '\n' 2> /dev/null < "/proc/$old/cmdline" | grep -q "^$folder/.*/haproxy.cfg$" &&
        ! grep -q "^PPid:[[:space:]]*$manager$" "/proc/$old/status"; then
        set -- "$@" -sf "$old"
    fi
fi
echo "$$ $PPID" > "$record"
exec "$RAYCOMMEND_HAPROXY" "$@"
