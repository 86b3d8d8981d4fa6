#!/bin/sh
# Pin PYTHON_IMAGE in .env to the digest that its tag has now (make pin).  The tag stays, to say what
# the digest is and for the next pin; with a digest, Docker ignores it.  Needs a registry.
set -eu
cd "$(dirname "$0")/../.."
image=$(sed -n 's/^PYTHON_IMAGE=//p' .env)
tag=${image%@*}
if ! problem=$(docker pull -q "$tag" 2>&1); then
    echo "pin: cannot pull $tag: $(echo "$problem" | tail -1)" >&2
    echo "pin: .env is unchanged: PYTHON_IMAGE=$image" >&2
    exit 1
fi
# An image pulled from several places has several digests; take that of this repository.
repository=${tag%:*}
digest=$(docker image inspect -f '{{range .RepoDigests}}{{println .}}{{end}}' "$tag" \
    | sed -n "s|^\(docker.io/\)\{0,1\}\(library/\)\{0,1\}$repository@||p" | head -1)
[ -n "$digest" ] || { echo "pin: the registry gave no digest of $tag" >&2; exit 1; }
sed "s|^PYTHON_IMAGE=.*|PYTHON_IMAGE=$tag@$digest|" .env >.env.pinned
cat .env.pinned >.env # keeps owner and mode
rm .env.pinned
echo "pin: PYTHON_IMAGE=$tag@$digest"
