# Runs the Pester tests against the staged module and writes "passed failed skipped" for the build script.
# Each file has a process of its own: the doubles bring the engine as no user does, and what is loaded stays loaded.
param(
    [Parameter(Mandatory)] [string] $Result,
    [string] $File,
    [switch] $Full
)
$ErrorActionPreference = 'Stop'
if (-not $File) {
    # Two files at a time: most of a file's time is the start of processes. What a file says is shown when it has ended.
    $Result = Join-Path (Resolve-Path (Split-Path $Result)) (Split-Path -Leaf $Result)
    $files = Get-ChildItem $PSScriptRoot -Filter *.Tests.ps1
    $counts = $files | Sort-Object Length -Descending | ForEach-Object -ThrottleLimit 2 -Parallel {
        $said = "$using:Result.$($_.BaseName)"
        Remove-Item -LiteralPath $said -ErrorAction Ignore
        $text = & pwsh -NoProfile -NonInteractive -File $using:PSCommandPath -Result $said -File $_.FullName -Full:$using:Full 2>&1 | Out-String -Width 200
        # A process that died without a word has failed.
        $counts = if (Test-Path -LiteralPath $said) { [int[]]((Get-Content -LiteralPath $said) -split ' ') } else { 0, 1, 0 }
        [pscustomobject]@{ Text = $text; Counts = $counts }
    } | ForEach-Object { Write-Host $_.Text.Trim(); , $_.Counts }
    if (@($counts).Count -ne $files.Count) { throw "Only $(@($counts).Count) of $($files.Count) files told how they ended." }
    $sum = 0..2 | ForEach-Object { $i = $_; ($counts | ForEach-Object { $_[$i] } | Measure-Object -Sum).Sum }
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
Set-Content -LiteralPath $Result -Value "$($run.PassedCount) $failed $($run.SkippedCount)"
exit [int]($failed -gt 0)
