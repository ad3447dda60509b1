#!/usr/bin/env bash
# Nchan: Debian's nginx with Debian's module, one worker, no access log.
. "$(dirname "$0")/../lib.sh"

module=/usr/lib/nginx/modules/ngx_nchan_module.so

install() { apt_install nginx libnginx-mod-nchan; }

version() { debian_version nginx libnginx-mod-nchan; }

start() {
    sed -e "s#@PORT@#$1#; s#@WORK@#$work#; s#@MODULE@#$module#; s#@FILES@#$(ulimit -n)#" \
        -e "s#@CONNECTIONS@#$(($(ulimit -n) - 100))#" "$here/nginx.conf.in" >"$work/nginx.conf"
    launch /usr/sbin/nginx -p "$work" -c "$work/nginx.conf" -g 'daemon off;'
    await_port "$1"
    ready "${pids[0]}"
}

main "$@"
