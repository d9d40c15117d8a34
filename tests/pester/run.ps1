# Runs the Pester tests against the staged module and writes "passed failed skipped left-out" for the build script.
# Each file has a process of its own: the doubles bring the engine as no user does, and what is loaded stays loaded.
param(
    [Parameter(Mandatory)] [string] $Result,
    [string] $File,
    [switch] $Full
)
$ErrorActionPreference = 'Stop'
if (-not $File) {
    $sum = 0, 0, 0, 0
    foreach ($one in Get-ChildItem $PSScriptRoot -Filter *.Tests.ps1) {
        Remove-Item -LiteralPath $Result -ErrorAction Ignore
        & pwsh -NoProfile -NonInteractive -File $PSCommandPath -Result $Result -File $one.FullName -Full:$Full
        # A process that died without a word has failed.
        $counts = if (Test-Path -LiteralPath $Result) { [int[]]((Get-Content -LiteralPath $Result) -split ' ') } else { 0, 1, 0, 0 }
        $sum = 0..3 | ForEach-Object { $sum[$_] + $counts[$_] }
    }
    Set-Content -LiteralPath $Result -Value "$sum"
    exit [int]($sum[1] -gt 0)
}

Import-Module Pester -MinimumVersion 5.5
$configuration = New-PesterConfiguration
$configuration.Run.Path = $File
$configuration.Run.PassThru = $true
$configuration.Output.Verbosity = 'Normal'
if (-not $Full) { $configuration.Filter.ExcludeTag = 'Long' }
$run = Invoke-Pester -Configuration $configuration
# A container or block that could not be set up has failed, though none of its tests ran.
$failed = $run.FailedCount + $run.FailedBlocksCount + $run.FailedContainersCount
Set-Content -LiteralPath $Result -Value "$($run.PassedCount) $failed $($run.SkippedCount) $($run.NotRunCount)"
exit [int]($failed -gt 0)
