#!/usr/bin/env bash
# Portolan in a kind cluster: ambient without istiod's waypoints, the chart, the example bookinfo, and its requests.
#
#   deploy/kind/demo.sh up       makes the cluster and installs everything; again, it installs what changed
#   deploy/kind/demo.sh check    sends the requests and prints their results as a table
#   deploy/kind/demo.sh down     removes the cluster
#   deploy/kind/demo.sh          up, then check
set -euo pipefail

KUBERNETES=v1.33.4
GATEWAY_API=v1.3.0
ISTIO=1.27.3

CLUSTER=${PORTOLAN_KIND_CLUSTER:-portolan}
IMAGE=portolan:kind
REQUESTS=200
# Where istiod is, so that Portolan signs with the authority of the mesh.
NAMESPACE=istio-system

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)

fail() {
  echo "error: $*" >&2
  exit 1
}

# Whether a program is there; else what it is for and where it comes from.
need() {
  command -v "$1" >/dev/null || fail "$1 is missing: it $2; see $3"
}

tools() {
  need docker "runs the cluster and builds the image" https://docs.docker.com/engine/install
  need kind "makes the cluster" https://kind.sigs.k8s.io
  need kubectl "speaks to the cluster" https://kubernetes.io/docs/tasks/tools
  need helm "installs the chart" https://helm.sh/docs/intro/install
  need istioctl "installs the mesh" https://istio.io/latest/docs/setup/additional-setup/download-istio-release
  docker info >/dev/null 2>&1 || fail "docker does not answer: start it, or see that you may use it"
  local version
  version=$(istioctl version --remote=false --short 2>/dev/null || true)
  case $version in
  *"${ISTIO%.*}".*) ;;
  *) fail "istioctl is ${version:-of no known version}, and $ISTIO is needed: it installs the mesh of its own version" ;;
  esac
}

# Everything below speaks to this cluster, whatever the current context is.
kube() {
  kubectl --context "kind-$CLUSTER" "$@"
}

up() {
  if ! kind get clusters 2>/dev/null | grep --quiet --line-regexp "$CLUSTER"; then
    kind create cluster --name "$CLUSTER" --image "kindest/node:$KUBERNETES" --wait 3m
  fi
  echo "== Gateway API $GATEWAY_API"
  # Server-side: the definitions are longer than an annotation may be.
  kube apply --server-side --force-conflicts --filename \
    "https://github.com/kubernetes-sigs/gateway-api/releases/download/$GATEWAY_API/experimental-install.yaml" >/dev/null

  echo "== ambient $ISTIO, without istiod's waypoints"
  istioctl install --context "kind-$CLUSTER" --skip-confirmation --set profile=ambient \
    --set values.pilot.env.PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER=false \
    --set values.pilot.env.PILOT_ENABLE_GATEWAY_API_GATEWAYCLASS_CONTROLLER=false
  # An istiod that was here before may have made it, with its own controller's name in it.
  kube delete gatewayclass istio-waypoint --ignore-not-found

  echo "== the image"
  docker build --quiet --file "$repository/deploy/image/Dockerfile" --tag "$IMAGE" "$repository"
  kind load docker-image --name "$CLUSTER" "$IMAGE"

  echo "== the chart"
  helm upgrade --install portolan "$repository/deploy/chart" --kube-context "kind-$CLUSTER" \
    --namespace "$NAMESPACE" --wait --timeout 3m \
    --set image.repository="${IMAGE%:*}" --set image.tag="${IMAGE#*:}" --set image.pullPolicy=Never \
    --set certificates.caSecret=istio-ca-secret --set-string podAnnotations.built="$(date +%s)"

  echo "== bookinfo"
  kubectl kustomize --load-restrictor LoadRestrictionsNone "$here" |
    kube apply --server-side --force-conflicts --filename - >/dev/null
  local namespace
  for namespace in webapp accounts bookinfo finance default; do
    kube wait --namespace "$namespace" --for condition=Available --timeout 3m deployment --all
  done
  kube wait --namespace "$NAMESPACE" --for condition=Available --timeout 3m deployment/kiali
  for namespace in webapp accounts bookinfo; do
    kube wait --namespace "$namespace" --for condition=Programmed --timeout 3m gateway/waypoint
  done
  kube wait --namespace default --for condition=Programmed --timeout 3m gateway/default
}

# Who answered a request, or its status. Arguments: namespace, account, method, address.
ask() {
  local answer
  answer=$(kube exec --namespace "$1" "deployment/$2" -- \
    curl --silent --max-time 10 --request "$3" --write-out '\n%{http_code}' "$4") || true
  if [ "$(tail -n 1 <<<"$answer")" = 200 ]; then
    sed -n 's/^Name: //p' <<<"$answer"
  else
    tail -n 1 <<<"$answer"
  fi
}

failed=0

row() {
  local verdict=ok
  if [ "$4" != yes ]; then
    verdict=WRONG
    failed=1
  fi
  printf '%-22s %-46s %-30s %s\n' "$1" "$2" "$3" "$verdict"
}

# One request and what has to come back.
expect() {
  local got same=no
  got=$(ask "$1" "$2" "$3" "$4")
  if [ "$got" = "$5" ]; then same=yes; fi
  row "$1/$2" "$3 $4" "$got, and $5 is right" "$same"
}

# Many requests, of which about nine tenths are for the first.
spread() {
  local answers first second same=no
  answers=$(kube exec --namespace "$1" "deployment/$2" -- sh -c \
    "i=0; while [ \$i -lt $REQUESTS ]; do curl --silent --max-time 10 $3; i=\$((i + 1)); done")
  first=$(grep --count "^Name: $4\$" <<<"$answers" || true)
  second=$(grep --count "^Name: $5\$" <<<"$answers" || true)
  # Of two hundred requests: less than one in a million fair runs falls outside of this.
  if [ $((first + second)) -eq "$REQUESTS" ] && [ "$second" -ge 1 ] && [ "$second" -le 45 ]; then same=yes; fi
  row "$1/$2" "$REQUESTS x GET $3" "$first $4, $second $5" "$same"
}

check() {
  printf '%-22s %-46s %-30s\n' caller request result
  expect webapp curl GET http://web.webapp/ web
  expect webapp curl POST http://web.webapp/ 403
  expect webapp wget GET http://web.webapp/ 403
  expect finance ledger GET http://accounts.accounts/ accounts
  expect finance ledger POST http://accounts.accounts/ 403
  expect webapp curl GET http://accounts.accounts/ 403
  expect default curl GET http://dashboard.default:8000/ dashboard
  expect istio-system kiali GET http://dashboard.default:8000/ dashboard
  expect default curl POST http://dashboard.default:8000/ 403
  expect webapp curl GET http://dashboard.default:8000/ 403
  spread default curl http://reviews.bookinfo:9080/ reviews-v1 reviews-v2
  expect default curl GET http://productpage.bookinfo:9080/ productpage
  expect default curl POST http://productpage.bookinfo:9080/ 403
  expect default wget GET http://productpage.bookinfo:9080/ 403
  if [ "$failed" -ne 0 ]; then
    fail "not everything came back as it should; see kubectl --context kind-$CLUSTER -n $NAMESPACE logs deployment/portolan"
  fi
}

case ${1:-all} in
all)
  tools
  up
  check
  ;;
up)
  tools
  up
  ;;
check)
  need kubectl "speaks to the cluster" https://kubernetes.io/docs/tasks/tools
  check
  ;;
down)
  need kind "removes the cluster" https://kind.sigs.k8s.io
  kind delete cluster --name "$CLUSTER"
  ;;
*)
  fail "there are up, check and down, and not $1"
  ;;
esac
