#!/usr/bin/env pwsh
<#
.SYNOPSIS
The same door as build.sh, for PowerShell on any system.
.PARAMETER Task
build, test, demo, bench, docs, package, analyze or prepare; what each does is told by: ./build.ps1 help
.PARAMETER Rest
What the task takes, as build.sh takes it: test --full, demo --duration 45s, bench NAME.
#>
param(
    [Parameter(Position = 0)]
    [ValidateSet('build', 'test', 'demo', 'bench', 'docs', 'package', 'analyze', 'prepare', 'help')]
    [string] $Task = 'help',

    [Parameter(Position = 1, ValueFromRemainingArguments)]
    [string[]] $Rest = @()
)
$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 3
$env:DOTNET_CLI_TELEMETRY_OPTOUT = $env:DOTNET_NOLOGO = '1'
$quiet = '-c', 'Release', '-v', 'q', '-nologo', '-clp:NoSummary'
$out = Join-Path $PSScriptRoot 'out'
$oracle = Join-Path $out 'VMatrix/bin/net10.0/engine/vmatrix-oracle.dll'
$results = Join-Path $out 'test-results'

function Invoke-Dotnet {
    dotnet @args
    if ($LASTEXITCODE -ne 0) { throw "dotnet $($args[0]) ended with code $LASTEXITCODE." }
}

function Invoke-Stage([string] $Target = 'Stage') {
    Invoke-Dotnet build src/VMatrix.Cmdlets/VMatrix.Cmdlets.csproj @quiet "-t:$Target"
    $null = New-Item -ItemType File -Force (Join-Path $out '.staged')
}

# What the embedded hypervisor needs comes from the distribution; elsewhere there is nothing to install.
function Invoke-Prepare {
    if ($PSVersionTable.PSEdition -eq 'Core' -and $IsLinux) {
        bash ./build.sh prepare
        if ($LASTEXITCODE -ne 0) { exit $LASTEXITCODE }
    }
}

# Puts PowerShell 7.6 or newer on PATH as pwsh: this one, the one that is there, or the one that the tool manifest names. A .NET tool's command is a shim
# that starts PowerShell as its child; what stands on PATH afterwards is PowerShell itself.
function Find-PowerShell {
    $ask = '-NoProfile', '-NonInteractive', '-Command', 'if ([Environment]::Version.Major -ge 10) { $PSHOME }'
    $shellHome = if ([Environment]::Version.Major -ge 10) { $PSHOME }
    if (-not $shellHome -and (Get-Command pwsh -CommandType Application -ErrorAction Ignore)) { $shellHome = pwsh @ask }
    if (-not $shellHome) {
        $null = dotnet tool restore 2>&1
        if ($LASTEXITCODE -eq 0) { $shellHome = dotnet tool run pwsh '--' @ask }
    }
    if (-not $shellHome) { return $false }
    $folder = $shellHome
    $runs = try { & (Join-Path $shellHome 'pwsh') -NoProfile -NonInteractive -Command exit *> $null; $LASTEXITCODE -eq 0 } catch { $false }
    if (-not $runs) {
        # The tool's package brings a program for linux-x64 alone.
        $folder = Join-Path $out 'pwsh'
        $null = New-Item -ItemType Directory -Force $folder
        $library = Join-Path $shellHome 'pwsh.dll'
        if ($env:OS -eq 'Windows_NT') { Set-Content (Join-Path $folder 'pwsh.cmd') "@dotnet `"$library`" %*" }
        else {
            Set-Content (Join-Path $folder 'pwsh') "#!/bin/sh`nexec dotnet `"$library`" `"`$@`""
            chmod +x (Join-Path $folder 'pwsh')
        }
    }
    $env:PATH = $folder + [IO.Path]::PathSeparator + $env:PATH
    $true
}

# Puts Pester, as its package has it, into out/modules and on the module path.
function Find-Pester {
    $version = ([xml](Get-Content -Raw Directory.Packages.props)).SelectSingleNode('//PesterVersion').InnerText
    $target = Join-Path $out "modules/Pester/$version"
    if (-not (Test-Path (Join-Path $target 'Pester.psd1'))) {
        $null = dotnet restore tests/pester/Pester.csproj -v q "-p:RestorePackagesPath=$(Join-Path $out 'packages')" 2>&1
        if ($LASTEXITCODE -ne 0) { return $false }
        Remove-Item -Recurse -Force $target -ErrorAction Ignore
        $null = New-Item -ItemType Directory -Force (Split-Path $target)
        Copy-Item -Recurse (Join-Path $out "packages/pester/$version/tools") $target
    }
    $env:PSModulePath = (Join-Path $out 'modules') + [IO.Path]::PathSeparator + $env:PSModulePath
    $true
}

$sum = @{ Passed = 0; Failed = 0; Skipped = 0 }
# Each test that was skipped says why; equal reasons are counted together at the end.
$reasons = [Collections.Generic.List[string]]::new()

# A suite that ran nothing, or that died without saying which test failed, has failed.
function Add-Count([string] $Name, [int] $Code, [int] $Passed, [int] $Failed, [int] $Skipped) {
    if ($Code -ne 0 -and $Failed -eq 0) {
        Write-Host "${Name}: ended with code $Code though no test failed; counted as a failure."
        $Failed = 1
    }
    elseif ($Passed + $Failed -eq 0) {
        Write-Host "${Name}: ran no test; counted as a failure."
        $Failed = 1
    }
    $sum.Passed += $Passed
    $sum.Failed += $Failed
    $sum.Skipped += $Skipped
    Write-Host "${Name}: $Passed passed, $Failed failed, $Skipped skipped"
}

function Invoke-Xunit([IO.FileInfo] $Project, [bool] $Full) {
    $name = $Project.BaseName
    $trx = Join-Path $results "$name.trx"
    $filter = if ($Full) { @() } else { '--filter', 'Category!=Long' }
    dotnet test $Project.FullName -c Release --no-build --nologo -v q @filter --results-directory $results --logger "trx;LogFileName=$name.trx" `
        --logger 'console;verbosity=minimal' --blame-hang-timeout $(if ($Full) { '40m' } else { '8m' }) --blame-hang-dump-type none | Out-Host
    $code = $LASTEXITCODE
    $counters = if (Test-Path $trx) { ([xml](Get-Content -Raw $trx)).TestRun.ResultSummary.Counters }
    if ($counters) {
        $skipped = ([xml](Get-Content -Raw $trx)).TestRun.Results.UnitTestResult | Where-Object outcome -EQ NotExecuted
        $skipped | ForEach-Object { $reasons.Add($_.Output.ErrorInfo.Message) }
        Add-Count $name $code $counters.passed $counters.failed ([int]$counters.total - $counters.passed - $counters.failed)
    }
    else { Add-Count $name $code 0 0 0 }
}

function Skip-Pester([int] $Count, [string] $Why) {
    Write-Host "Pester: $Count skipped"
    $sum.Skipped += $Count
    for ($i = 0; $i -lt $Count; $i++) { $reasons.Add($Why) }
}

function Invoke-PesterSuite([bool] $Full) {
    # Counted from the files where they cannot run: one for each It, however many cases it has.
    $blocks = @(Get-ChildItem tests/pester/*.Tests.ps1 | Select-String '^\s*It\s+[''"]').Count
    if (-not $hasPowerShell) {
        Skip-Pester $blocks 'need PowerShell 7.6, which is neither on PATH nor to be had as a .NET tool'
        return
    }
    if (-not (Find-Pester) -and -not (pwsh -NoProfile -Command 'Get-Module -ListAvailable Pester | Where-Object Version -GE 5.5')) {
        Skip-Pester $blocks 'need Pester 5.5 or newer, which is neither installed nor to be had as a package'
        return
    }
    $said = Join-Path $results 'pester.txt'
    $arguments = @('-NoProfile', '-NonInteractive', '-File', 'tests/pester/run.ps1', '-Result', $said) + $(if ($Full) { '-Full' })
    pwsh @arguments | Out-Host
    $code = $LASTEXITCODE
    $counts = if (Test-Path $said) { -split (Get-Content -Raw $said) } else { 0, 0, 0 }
    $passed, $failed, $skipped = [int[]]$counts
    Add-Count 'Pester' $code $passed $failed $skipped
    for ($i = 0; $i -lt $skipped; $i++) { $reasons.Add("say why in Pester's output") }
}

function Invoke-Test([bool] $Full) {
    Invoke-Prepare
    Remove-Item -Recurse -Force $results -ErrorAction Ignore
    $null = New-Item -ItemType Directory -Force $results
    Invoke-Dotnet build VMatrix.sln @quiet
    Invoke-Stage
    $hasPowerShell = Find-PowerShell
    $known = Get-Content -Raw VMatrix.sln
    foreach ($project in Get-ChildItem tests/*/*.Tests.csproj) {
        if ($known.Contains($project.Name)) { Invoke-Xunit $project $Full }
        else { Add-Count "$($project.BaseName) (not in VMatrix.sln)" 1 0 0 0 }
    }
    Invoke-PesterSuite $Full
    if ($reasons) { "Skipped: $(($reasons | Group-Object | Sort-Object Count -Descending | ForEach-Object { "$($_.Count) $($_.Name)" }) -join '; ')." }
    if (-not $Full) { 'The long tests were left out; ./build.ps1 test --full runs them too.' }
    "$($sum.Passed) passed, $($sum.Failed) failed, $($sum.Skipped) skipped"
    exit [int]($sum.Failed -gt 0 -or $sum.Passed -eq 0)
}

Push-Location $PSScriptRoot
try {
    switch ($Task) {
        build { Invoke-Stage }
        test {
            if ($Rest.Where({ $_ -notin '--full', '-Full' })) { throw "test takes --full or nothing, not '$Rest'." }
            Invoke-Test ($Rest.Count -gt 0)
        }
        demo {
            Invoke-Prepare
            Invoke-Stage
            dotnet $oracle demo @Rest
            exit $LASTEXITCODE
        }
        bench {
            Invoke-Prepare
            Invoke-Stage
            $null = Find-PowerShell
            Invoke-Dotnet build bench/VMatrix.Bench @quiet
            dotnet bench/VMatrix.Bench/bin/Release/net10.0/VMatrix.Bench.dll @Rest
            exit $LASTEXITCODE
        }
        docs {
            Invoke-Stage
            & $PSScriptRoot/docs/build-help.ps1
            Invoke-Stage
        }
        package { Invoke-Stage Package }
        analyze {
            Invoke-Dotnet build VMatrix.sln @quiet --no-incremental
            Invoke-Dotnet format VMatrix.sln --verify-no-changes --no-restore --severity warn
            & $PSScriptRoot/tests/pester/analyze.ps1
        }
        prepare { Invoke-Prepare }
        help {
            (Get-Content build.sh) -match '^\./build\.sh ' -replace 'build\.sh', 'build.ps1'
        }
    }
}
finally {
    Pop-Location
}
