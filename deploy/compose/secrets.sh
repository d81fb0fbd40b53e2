#!/bin/sh
# The secrets of docker-compose.loadbalancer.yml: files with random values, in a folder per service. docs/compose.md
#
#   secrets.sh              creates those that are missing; values of /given, from .env or the environment, replace them
#   secrets.sh show NAME    prints one
#   secrets.sh rotate NAME  replaces one
set -eu
umask 027
cd "${SECRETS:-/data}"
given=${GIVEN:-/given}
mkdir -p all

fail() { printf 'secrets: %s\n' "$*" >&2; exit 1; }
value_of() { sed -n "s/^$1=//p" "$given"; }
# Hexadecimal, so that programs need no quotes for it.
random() { od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n'; }
# put FILE: from stdin. A reader sees the whole old or the whole new file.
put() { cat > "$1.new" && chmod 440 "$1.new" && mv -f "$1.new" "$1"; }
# give FOLDER NAME…: the files of one service
give() {
  folder=$1
  shift
  mkdir -p "$folder"
  for name; do put "$folder/$name" < "all/$name"; done
}
percent_encoded() { od -An -v -tx1 | tr -d ' \n' | sed 's/../%&/g'; }

names=$(sed -n 's/^\([A-Z_]*\)=.*/\1/p' "$given")
if grep -qv '^[A-Z_]*=' "$given"; then fail 'a secret must be one line'; fi
if [ $# != 0 ]; then
  case "$1 $#" in 'show 2' | 'rotate 2') ;; *) fail 'usage: secrets.sh [show NAME | rotate NAME]' ;; esac
  case " $(echo $names) " in *" $2 "*) ;; *) fail "no secret $2; there are:" $names ;; esac
fi

for name in $names; do
  value=$(value_of "$name")
  if [ -n "$value" ]; then
    printf %s "$value" | put "all/$name"
  elif ! [ -s "all/$name" ]; then
    # The first signs, all verify. The second is the next one: before an instance signs with it, all others know it.
    case $name in SESSION_SECRET) printf '%s,%s' "$(random)" "$(random)" ;; *) random ;; esac | put "all/$name"
  fi
done

case ${1-} in
  show) exec cat "all/$2" ;;
  rotate)
    if [ -n "$(value_of "$2")" ]; then fail "$2 is set in .env or in the environment; change it there"; fi
    case $2 in
      SESSION_SECRET)
        IFS=, read -r first second _ < all/SESSION_SECRET || [ -n "$first" ]
        printf '%s,%s,%s' "${second:-$(random)}" "$(random)" "$first" | put all/SESSION_SECRET
        ;;
      *) random | put "all/$2" ;;
    esac
    ;;
esac

give app FLEET_ADMIN_TOKEN SESSION_SECRET JWT_SECRET REDIS_PASSWORD
give redis REDIS_PASSWORD
give haproxy LB_STATS_PASSWORD
give prometheus FLEET_ADMIN_TOKEN
give grafana GRAFANA_PASSWORD
if [ -e all/POSTGRES_PASSWORD ]; then
  give postgres POSTGRES_PASSWORD REPLICATION_PASSWORD
  give postgres-replica REPLICATION_PASSWORD
  password=$(percent_encoded < all/POSTGRES_PASSWORD)
  printf 'postgresql://fleet:%s@postgres:5432/fleet' "$password" | put app/DATABASE_URL
  printf 'postgresql://fleet:%s@postgres-replica:5432/fleet' "$password" | put app/DATABASE_REPLICA_URLS
fi
