#!/bin/sh
# Make what the brokers and their users need, as far as it is missing: a CA, a certificate for each
# broker, passwords.  Usage: keys.sh FOLDER SHARD...
# Others on this host cannot enter FOLDER; its files are readable for the containers' uid, 10001, which
# gets each by a mount of its own.  ca.key signs further certificates: keep it elsewhere.
set -eu
folder=$1
shift
here=$(dirname "$0")
[ $# -gt 0 ] || { echo "usage: keys.sh FOLDER SHARD..." >&2; exit 2; }
mkdir -p "$folder"
chmod 700 "$folder"

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

if ! [ -s "$folder/ca.pem" ]; then
    key "$folder/ca.key"
    openssl req -x509 -new -key "$folder/ca.key" -days 3650 -subj "/CN=trading bus" \
        -addext keyUsage=critical,keyCertSign,cRLSign -out "$folder/ca.pem"
fi
for broker in broker-1 broker-2 broker-3; do
    [ -s "$folder/$broker.pem" ] && continue
    key "$folder/$broker.key"
    openssl req -new -key "$folder/$broker.key" -subj "/CN=$broker" -out "$folder/$broker.csr"
    {
        echo "subjectAltName=DNS:$broker,DNS:localhost,IP:127.0.0.1"
        echo "extendedKeyUsage=serverAuth,clientAuth"
        echo "subjectKeyIdentifier=hash"
        echo "authorityKeyIdentifier=keyid"
    } >"$folder/$broker.ext"
    openssl x509 -req -in "$folder/$broker.csr" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" \
        -CAcreateserial -days 825 -extfile "$folder/$broker.ext" -out "$folder/$broker.pem" 2>/dev/null
    rm "$folder/$broker.csr" "$folder/$broker.ext"
done
"${PYTHON:-python3}" "$here/accounts.py" "$folder" "$@"
# For Prometheus: where each shard's publisher serves its metrics.  Overwritten, not replaced: it is mounted.
between="["
for shard in "$@"; do
    printf '%s{"targets": ["shard-%s:9102"], "labels": {"shard": "%s"}}' "$between" "$shard" "$shard"
    between=", "
done >"$folder/shards.json"
echo "]" >>"$folder/shards.json"
chmod 644 "$folder/shards.json" "$folder"/*.pem "$folder"/broker-*.key "$folder/accounts.conf" "$folder"/creds/*
chmod 600 "$folder/ca.key"
echo "keys: $folder has certificates, and users for the shards $*"
