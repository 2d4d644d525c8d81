# Sourced by the scripts that build images. Sets `arguments` (build arguments to reach package indexes from this machine), image names and
# BUILD_PLATFORM. Each comes from the environment, then docker/.env (written by docker/offline), then docker/images.env (public images).
while IFS='=' read -r name value; do
  [ -n "${!name:-}" ] || declare "$name=$value"
done < <(cat docker/.env docker/images.env 2>/dev/null)

for file in /usr/local/share/ca-certificates/*.crt /etc/pki/ca-trust/source/anchors/*.crt ~/.m2/settings.xml; do
  [ ! -f "$file" ] || cp "$file" docker/ca/
done

arguments=()
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY PIP_INDEX_URL; do
  [ -z "${!name:-}" ] || arguments+=(--build-arg "$name")
done

# build TARGET TAG [ARGUMENT...]: print the id of the image; print the build log only if the build fails.
build() {
  local log
  log=$(mktemp)
  # shellcheck disable=SC2086  # several words; bash 3.2 of macOS rejects an empty array
  docker build ${arguments[@]+"${arguments[@]}"} ${BUILD_OPTIONS:-} --target "$1" -t "$2" "${@:3}" >"$log" 2>&1 || {
    tail -n 40 "$log" >&2
    rm "$log"
    return 1
  }
  rm "$log"
  docker image inspect --format '{{.Id}}' "$2"
}
