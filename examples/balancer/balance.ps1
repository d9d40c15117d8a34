<#
.SYNOPSIS
A balancer for VMatrix as a script: a frame to fill in, which keeps its members in a file beside itself.
.DESCRIPTION
Name it in the pool file: balancer: { kind: script, script: balance.ps1 }. VMatrix runs it with -Action and, by action, -Service,
-Server (the server's id) and -Address. Every action may be called again and must then do nothing more. End with an error to say that
it was not done: VMatrix tries again, and takes the move back if that does not help. Only you, Administrators or root may be able to
write this file and its folder, or it is not run.

Replace the lines marked "your balancer" by calls to it: an F5, a cloud's balancer, DNS.
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory)] [ValidateSet('attach', 'drain', 'detach', 'load', 'start', 'stop')] [string] $Action,
    [string] $Service,
    [guid] $Server,
    [string] $Address
)
$ErrorActionPreference = 'Stop'
# VMatrix runs the very file that it has checked, by another name, and tells the real one.
$folder = if ($env:VMATRIX_SCRIPT) { Split-Path -Parent $env:VMATRIX_SCRIPT } else { $PSScriptRoot }
$file = Join-Path $folder 'members.json'
$members = @(if (Test-Path -LiteralPath $file) { Get-Content -Raw -LiteralPath $file | ConvertFrom-Json })
$others = @($members | Where-Object server -NE "$Server")
$mine = $members | Where-Object server -EQ "$Server"

switch ($Action) {
    'attach' {
        # Your balancer: send requests of $Service to $Address from now on, also when it was drained before or had another address.
        $members = $others + [pscustomobject]@{ service = $Service; server = "$Server"; address = $Address; state = 'ready'; open = 0 }
    }
    'drain' {
        # Your balancer: send no new requests; those that are open go on. One that is not a member is no error.
        if ($mine) { $mine.state = 'draining' }
    }
    'detach' {
        # Your balancer: forget it, and cut what is still open. One that is not a member is no error.
        $members = $others
    }
    'load' {
        # Your balancer: what it holds, and what it counted since its start. Leave a service's counters out rather than write a zero
        # that was not counted: a sample without counters freezes the Oracle's decisions for the service, a zero gives its servers away.
        @{ incarnation = 'members.json'; members = $members; services = @() } | ConvertTo-Json -Depth 4
        return
    }
    default { return } # start and stop are called only with own: true.
}

# Whole or not at all, for load may read it meanwhile.
ConvertTo-Json @($members) | Set-Content -LiteralPath "$file.next"
Move-Item -Force -LiteralPath "$file.next" -Destination $file
