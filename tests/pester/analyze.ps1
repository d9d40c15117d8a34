# Checks the repository's scripts with PSScriptAnalyzer. Ends with code 1 when it finds something.
$ErrorActionPreference = 'Stop'
$repo = (Resolve-Path "$PSScriptRoot/../..").Path
if (-not (Get-Module -ListAvailable PSScriptAnalyzer)) {
    'PSScriptAnalyzer is not installed (Install-PSResource PSScriptAnalyzer): the scripts are not checked.'
    exit 0
}
Import-Module PSScriptAnalyzer
# Scripts that people run at a prompt may write to it; variables of a test file are used in other blocks than they are set in; its hosts are doubles.
$settings = @{ Severity = 'Error', 'Warning'; ExcludeRules = 'PSAvoidUsingWriteHost', 'PSUseDeclaredVarsMoreThanAssignments', 'PSUseShouldProcessForStateChangingFunctions', 'PSAvoidUsingComputerNameHardcoded' }
$found = Get-ChildItem $repo/*.ps1, $repo/*.psm1, $repo/*.psd1, $repo/docs/*.ps1, $repo/examples/*.ps1, $repo/examples/*/*.ps1, $repo/tests/pester/*.ps1 | ForEach-Object {
    Invoke-ScriptAnalyzer -Path $_.FullName -Settings $settings
}
$found | ForEach-Object { "$($_.ScriptPath):$($_.Line): $($_.RuleName): $($_.Message)" }
exit [int](@($found).Count -gt 0)
