#!/usr/bin/env bash
# The Debian archive that this machine installs from, so that no host name is written down here.
# Usage: mirror.sh [LABEL], such as Debian-Security; prints nothing where apt knows none of that label.
set -euo pipefail
apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Created-By: Packages' |
  awk -v label="${1:-Debian}" '$2 == "Debian" && $3 == label && !seen++ {print $1}'
