#!/usr/bin/env bash
# Print the Debian archive of this machine, so that the source contains no host name.
# Usage: mirror.sh [LABEL], such as Debian-Security. Prints nothing if apt has no archive with that label.
set -euo pipefail
apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Created-By: Packages' |
  awk -v label="${1:-Debian}" '$2 == "Debian" && $3 == label && !seen++ {print $1}'
