# Runs the Pester tests against the staged module and writes "passed failed skipped" for the build script.
param(
    [Parameter(Mandatory)] [string] $Result,
    [switch] $Full
)
$ErrorActionPreference = 'Stop'
Import-Module Pester -MinimumVersion 5.5
$configuration = New-PesterConfiguration
$configuration.Run.Path = $PSScriptRoot
$configuration.Run.PassThru = $true
$configuration.Output.Verbosity = 'Normal'
if (-not $Full) { $configuration.Filter.ExcludeTag = 'Long' }
$run = Invoke-Pester -Configuration $configuration
# A container or block that could not be set up has failed, though none of its tests ran.
$failed = $run.FailedCount + $run.FailedBlocksCount + $run.FailedContainersCount
Set-Content -LiteralPath $Result -Value "$($run.PassedCount) $failed $($run.SkippedCount)"
exit [int]($failed -gt 0)
