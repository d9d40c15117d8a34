#!/usr/bin/env bash
# One door: ./build.sh TASK. Needs the .NET SDK; on Debian and Ubuntu it brings the rest itself. build.ps1 is the same door for PowerShell.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 DOTNET_SKIP_FIRST_TIME_EXPERIENCE=1
readonly oracle=out/VMatrix/bin/net10.0/engine/vmatrix-oracle.dll results=out/test-results reasons=out/test-results/skipped.txt

usage() {
    cat <<'EOF'
./build.sh build             builds the module and lays it out in out/VMatrix
./build.sh test [--full]     builds, runs the tests (--full: the long ones too, half an hour) and ends with "N passed, N failed, N skipped"
./build.sh demo [options]    shows two services sharing three hosts, with real virtual machines; see --help for its options
./build.sh bench [name]      prints measurements beside named peers
./build.sh docs              makes en-US/ (the help that PowerShell shows) from docs/en-US/
./build.sh package           makes out/VMatrix-VERSION.zip
./build.sh analyze           checks code style and scripts
./build.sh prepare           installs what the tests and the demo need from the distribution
EOF
}

say() { printf '%s\n' "$*"; }
die() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }

# What the embedded hypervisor and the balancer need from the distribution.
prepare() {
    [ "$(uname -s)" = Linux ] || return 0
    local missing=() kernel=linux-image-cloud-amd64
    # shellcheck disable=SC1091
    [ "$(. /etc/os-release 2>/dev/null && echo "${ID:-}")" = ubuntu ] && kernel=linux-image-virtual
    PATH=$PATH:/usr/sbin:/sbin
    command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
    command -v qemu-img >/dev/null || missing+=(qemu-utils)
    command -v haproxy >/dev/null || missing+=(haproxy)
    command -v zstd >/dev/null || missing+=(zstd)
    command -v cpio >/dev/null || missing+=(cpio)
    { command -v busybox && ! LC_ALL=C ldd "$(command -v busybox)" | grep -q '=>'; } >/dev/null 2>&1 || missing+=(busybox-static)
    compgen -G '/boot/vmlinuz-*' >/dev/null && compgen -G '/lib/modules/*/kernel/drivers' >/dev/null || missing+=("$kernel")
    [ ${#missing[@]} -eq 0 ] && return 0
    command -v apt-get >/dev/null || die "this needs QEMU, qemu-img, HAProxy, zstd, cpio, a static busybox and a Linux kernel image; of Debian's packages these are missing: ${missing[*]}"
    [ "$(id -u)" -eq 0 ] || die "some packages are missing; run: sudo apt-get install --no-install-recommends -y ${missing[*]}"
    say "Installing ${missing[*]} ..."
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install --no-install-recommends -y -qq "${missing[@]}" >/dev/null
}

need_sdk() {
    command -v dotnet >/dev/null || die "the .NET SDK 10 is missing; see https://dotnet.microsoft.com/download"
    # Programs of .NET look for it by this where it is not in its usual place.
    export DOTNET_ROOT=${DOTNET_ROOT:-$(dotnet --list-runtimes | sed -n 's/^Microsoft\.NETCore\.App .*\[\(.*\)\/shared\/.*/\1/p' | head -1)}
}

stage() {
    need_sdk
    mkdir -p out
    dotnet build src/VMatrix.Cmdlets/VMatrix.Cmdlets.csproj -c Release -t:"${1:-Stage}" -v q -nologo -clp:NoSummary
    touch out/.staged
}

# Builds only when a source is newer than what is staged, so that a second run starts in seconds.
stage_if_stale() {
    if [ ! -f out/.staged ] || [ ! -f "$oracle" ] || [ -n "$(find src VMatrix.* Directory.* en-US examples LICENSE global.json build.sh \
        \( -name bin -o -name obj -o -name .vmatrix \) -prune -o -newer out/.staged -print -quit 2>/dev/null)" ]; then
        say "Building ..."
        stage
    fi
}

# Puts PowerShell 7.6 or newer on PATH as pwsh: the one that is there, else the one that the tool manifest names. A .NET tool's command is a shim that
# starts PowerShell as its child; what stands on PATH afterwards is PowerShell itself.
find_pwsh() {
    local candidate home
    for candidate in pwsh "dotnet tool run pwsh --"; do
        if [ "$candidate" != pwsh ]; then
            dotnet tool restore >/dev/null 2>&1 </dev/null || continue
        fi
        # shellcheck disable=SC2016,SC2086
        home=$($candidate -NoProfile -NonInteractive -Command 'if ([Environment]::Version.Major -ge 10) { $PSHOME }' 2>/dev/null </dev/null) || continue
        [ -n "$home" ] || continue
        if "$home/pwsh" -NoProfile -NonInteractive -Command exit >/dev/null 2>&1 </dev/null; then
            PATH=$home:$PATH
        else
            # The tool's package brings a program for linux-x64 alone.
            mkdir -p out/pwsh
            printf '#!/bin/sh\nexec dotnet "%s/pwsh.dll" "$@"\n' "$home" >out/pwsh/pwsh
            chmod +x out/pwsh/pwsh
            PATH=$PWD/out/pwsh:$PATH
        fi
        return 0
    done
    return 1
}

# Puts Pester, as its package has it, into out/modules and on the module path.
find_pester() {
    local version target
    version=$(sed -n 's/.*<PesterVersion>\(.*\)<\/PesterVersion>.*/\1/p' Directory.Packages.props)
    target=out/modules/Pester/$version
    if [ ! -f "$target/Pester.psd1" ]; then
        dotnet restore tests/pester/Pester.csproj -v q -p:RestorePackagesPath="$PWD/out/packages" >/dev/null 2>&1 </dev/null || return 1
        mkdir -p "$(dirname "$target")"
        rm -rf "$target"
        cp -R "out/packages/pester/$version/tools" "$target"
    fi
    export PSModulePath=$PWD/out/modules${PSModulePath:+:$PSModulePath}
}

# Adds what a suite said to the sums. A suite that ran nothing, or that died without saying which test failed, has failed.
passed=0 failed=0 skipped=0
count() { # name exit-code passed failed skipped
    local f=$4
    if [ "$2" -ne 0 ] && [ "$4" -eq 0 ]; then
        say "$1: ended with code $2 though no test failed; counted as a failure."
        f=1
    elif [ $(($3 + $4)) -eq 0 ]; then
        say "$1: ran no test; counted as a failure."
        f=1
    fi
    passed=$((passed + $3)) failed=$((failed + f)) skipped=$((skipped + $5))
    say "$1: $3 passed, $f failed, $5 skipped"
}

run_xunit() { # project
    local name code=0 trx counters total
    name=$(basename "$1" .csproj)
    trx=$results/$name.trx
    local filter=(--filter "Category!=Long")
    [ -z "$full" ] || filter=()
    dotnet test "$1" -c Release --no-build --nologo -v q "${filter[@]}" --results-directory "$results" \
        --logger "trx;LogFileName=$name.trx" --logger "console;verbosity=minimal" \
        --blame-hang-timeout "${full:+40m}${quick:+8m}" --blame-hang-dump-type none </dev/null || code=$?
    counters=$(grep -o '<Counters [^>]*>' "$trx" 2>/dev/null || true)
    # Each test that was skipped says why; equal reasons are counted together at the end.
    sed -n '/outcome="NotExecuted"/,/<\/UnitTestResult>/s/.*<Message>\(.*\)<\/Message>.*/\1/p' "$trx" 2>/dev/null >>"$reasons" || true
    of() { sed -n "s/.* $1=\"\([0-9]*\)\".*/\1/p" <<<"$counters"; }
    total=$(of total)
    local p f
    p=$(of passed) f=$(of failed)
    count "$name" "$code" "${p:-0}" "${f:-0}" $((${total:-0} - ${p:-0} - ${f:-0}))
}

run_pester() {
    local code=0 p f s blocks
    # Counted from the files where they cannot run: one for each It, however many cases it has.
    blocks=$(grep -hcE "^[[:space:]]*It[[:space:]]+['\"]" tests/pester/*.Tests.ps1 2>/dev/null | awk '{n += $1} END {print n + 0}')
    if [ -z "$has_pwsh" ]; then
        skip_pester "need PowerShell 7.6, which is neither on PATH nor to be had as a .NET tool"
        return
    fi
    if ! find_pester && ! pwsh -NoProfile -NonInteractive -Command 'exit [int](-not (Get-Module -ListAvailable Pester | Where-Object Version -GE 5.5))' </dev/null; then
        skip_pester "need Pester 5.5 or newer, which is neither installed nor to be had as a package"
        return
    fi
    pwsh -NoProfile -NonInteractive -File tests/pester/run.ps1 -Result "$results/pester.txt" ${full:+-Full} </dev/null || code=$?
    { read -r p f s <"$results/pester.txt"; } 2>/dev/null || true
    count Pester "$code" "${p:-0}" "${f:-0}" "${s:-0}"
    note_skipped "${s:-0}" "say why in Pester's output"
}

skip_pester() { # why
    say "Pester: $blocks skipped"
    skipped=$((skipped + blocks))
    note_skipped "$blocks" "$1"
}

note_skipped() { # count why
    local i
    for ((i = 0; i < $1; i++)); do say "$2"; done >>"$reasons"
}

# One line that says what was skipped and why.
tell_skipped() {
    [ "$skipped" -eq 0 ] || say "Skipped: $(sort "$reasons" | uniq -c | sort -rn | awk '{n = $1; sub(/^ *[0-9]+ /, ""); printf "%s%d %s", (NR > 1 ? "; " : ""), n, $0}')."
}

test_all() {
    full='' quick=1
    case "${1:-}" in
        --full) full=1 quick='' ;;
        '') ;;
        *) die "test takes --full or nothing, not '$1'" ;;
    esac
    need_sdk
    prepare
    rm -rf "$results"
    mkdir -p "$results"
    : >"$reasons"
    dotnet build VMatrix.sln -c Release -v q -nologo -clp:NoSummary
    stage
    local project has_pwsh=''
    find_pwsh && has_pwsh=1
    for project in tests/*/*.Tests.csproj; do
        if grep -q "$(basename "$project")" VMatrix.sln; then
            run_xunit "$project"
        else
            count "$(basename "$project" .csproj) (not in VMatrix.sln)" 1 0 0 0
        fi
    done
    run_pester
    tell_skipped
    [ -n "$full" ] || say "The long tests were left out; ./build.sh test --full runs them too."
    say "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

demo() {
    need_sdk
    prepare
    stage_if_stale
    exec dotnet "$oracle" demo "$@"
}

bench() {
    need_sdk
    prepare
    stage_if_stale
    find_pwsh || true
    dotnet build bench/VMatrix.Bench -c Release -v q -nologo -clp:NoSummary
    exec dotnet bench/VMatrix.Bench/bin/Release/net10.0/VMatrix.Bench.dll "$@"
}

scripts() { # script: runs it in PowerShell
    need_sdk
    find_pwsh || die "this needs PowerShell 7.6, which is neither on PATH nor to be had as a .NET tool"
    pwsh -NoProfile -NonInteractive -File "$@" </dev/null
}

analyze() {
    need_sdk
    dotnet build VMatrix.sln -c Release -v q -nologo -clp:NoSummary --no-incremental
    dotnet format VMatrix.sln --verify-no-changes --no-restore --severity warn
    scripts tests/pester/analyze.ps1
}

task=${1:-help}
[ $# -gt 0 ] && shift
case "$task" in
    build) stage ;;
    test) test_all "$@" ;;
    demo) demo "$@" ;;
    bench) bench "$@" ;;
    docs) stage && scripts docs/build-help.ps1 && stage ;;
    package) stage Package ;;
    analyze) analyze ;;
    prepare) prepare ;;
    help | -h | --help) usage ;;
    *) usage >&2; die "there is no task '$task'" ;;
esac
