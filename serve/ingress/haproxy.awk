# From the configuration that Ray Serve writes for its HAProxy to the one that runs: what Serve has no setting for.
# `folder` has what HAProxy itself answers; `last`, if given, is the configuration that runs. A configuration that lacks what
# is changed here is refused as a whole.

BEGIN {
    while (last && (getline line < last) > 0) {
        split(line, words)
        if (line ~ /^[a-z]/) at = words[1] " " words[2]
        if (words[1] == "server") ran[at] = ran[at] line "\n"
    }
}

/^[a-z]/ { end_section(); section = $1 ($2 ? " " $2 : ""); servers = 0 }

# The socket by which HAProxy obeys, and the pages that show what is asked of it, are for this user and this machine.
section == "global" && /stats socket .* mode 666/ { sub(/mode 666/, "mode 600"); changed["socket"]++ }
section == "frontend prometheus" && $1 == "bind" { sub(/bind :/, "bind 127.0.0.1:"); changed["metrics"]++ }
section == "listen stats" && $1 == "bind" { sub(/bind \*:/, "bind 127.0.0.1:"); changed["statistics"]++ }

# What HAProxy answers itself can be tried again, and says so; Serve makes it a bare 500.
section == "defaults" && $1 == "errorfile" { $0 = "    errorfile " $2 " " folder "/503.http"; changed["errors"]++ }

# As long as no application is known: 404 would say that there will never be one.
$1 == "use_backend" { known = 1 }
section == "backend default_backend" && /http-request return status 404/ {
    if (!known) $0 = "    http-request return status 503 errorfile " folder "/503.http"
    changed["unknown"]++
}

# No replica is up: Serve's proxy in Python, the last resort, would hold the request, or say 404.
section ~ /^backend/ && $1 == "server" && /check backup$/ { next }

$1 == "server" { servers++ }

{ print }

section == "defaults" && $1 == "mode" {
    # Who is slow to send headers, or a small body, is cut off before a replica hears of it.
    print "    timeout http-request 10s"
    print "    option http-buffer-request"
    print "    errorfile 408 " folder "/408.http"
    # A request says which replica it is for: a port can be another's by now. See serve/http/front.py.
    print "    http-send-name-header x-serve-server"
    changed["requests"]++
}
$1 == "option" && $2 == "httpchk" { print "    http-check send hdr x-serve-server %[srv_name]" }

# While Serve builds new code of an application (seconds), it names none of the replicas, which go on answering. Those that
# have really gone fail their checks.
function end_section() { if (!servers) printf "%s", ran[section] }

END {
    end_section()
    split("socket metrics statistics unknown requests", once)
    for (i in once) wrong = wrong || changed[once[i]] != 1
    if (wrong || changed["errors"] != 3) {
        print "haproxy.awk: Ray Serve has written a configuration that is not known here" > "/dev/stderr"
        exit 1
    }
}
