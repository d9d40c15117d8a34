# A session that may do little: no language, no provider and no drive for files, as an endpoint of Just Enough Administration gives it.
BeforeAll {
    . "$PSScriptRoot/Shared.ps1"
    $script:File = New-TestPool
    function New-RestrictedRunspace([scriptblock] $Change = {}) {
        $state = [initialsessionstate]::CreateRestricted('RemoteServer')
        $state.LanguageMode = 'NoLanguage'
        $state.ImportPSModule("$Module/VMatrix.psd1")
        & $Change $state
        $runspace = [runspacefactory]::CreateRunspace($state)
        $runspace.Open()
        $runspace
    }
    function Invoke-Restricted([runspace] $Runspace, [string] $Command, [hashtable] $Parameters) {
        $shell = [powershell]::Create()
        $shell.Runspace = $Runspace
        $null = $shell.AddCommand($Command).AddParameters($Parameters)
        try { @{ Found = @($shell.Invoke()); Errors = @($shell.Streams.Error) } }
        finally { $shell.Dispose() }
    }
}

Describe 'A session without a provider for files' {
    BeforeAll { $script:Runspace = New-RestrictedRunspace }
    AfterAll { $Runspace.Dispose() }

    It 'opens a pool by its full path, by its folder''s, and by the environment''s' {
        (Invoke-Restricted $Runspace 'Get-VMatrixHost' @{ Pool = $File }).Found.Count | Should -Be 4
        (Invoke-Restricted $Runspace 'Get-VMatrixHost' @{ Pool = (Split-Path $File) }).Found.Count | Should -Be 4
        $env:VMATRIX_POOL = $File
        try { (Invoke-Restricted $Runspace 'Get-VMatrixHost' @{}).Found.Count | Should -Be 4 }
        finally { $env:VMATRIX_POOL = $null }
    }

    It 'changes the pool too' {
        $made = Invoke-Restricted $Runspace 'New-VMatrixServer' @{ Service = 'FINANCE'; Pool = $File }
        $made.Errors | Should -BeNullOrEmpty
        $made.Found.Name | Should -Be 'FINANCE-1'
        $moved = Invoke-Restricted $Runspace 'Move-VMatrixServer' @{ Server = $made.Found[0]; Stage = 'Matrix'; PassThru = $true }
        $moved.Errors | Should -BeNullOrEmpty
        $moved.Found.Stage | Should -Be 'Matrix'
    }

    It 'says what is lacking when a path is not whole, or no pool is named' {
        (Invoke-Restricted $Runspace 'Get-VMatrixHost' @{ Pool = 'pool.yaml' }).Errors.FullyQualifiedErrorId | Should -Be 'PathNotWhole,VMatrix.Commands.GetVMatrixHostCommand'
        (Invoke-Restricted $Runspace 'Get-VMatrixHost' @{ Pool = 'env:PATH' }).Errors.FullyQualifiedErrorId | Should -Match '^Path(NotWhole|NotFile),'
        { Invoke-Restricted $Runspace 'Get-VMatrixHost' @{} } | Should -Throw '*No pool is named*'
    }
}

Describe 'Which pools a session may name' {
    It 'is its configuration''s choice' {
        # As VisibleCmdlets = @{ Name = 'Get-VMatrixHost'; Parameters = @{ Name = 'Pool'; ValidateSet = '...' } } of a role capability makes it.
        $other = New-TestPool
        $state = { param($state) $state.Commands.Add([System.Management.Automation.Runspaces.SessionStateFunctionEntry]::new('Show-Host', "param([ValidateSet('$File')] `$Pool = '$File') VMatrix\Get-VMatrixHost -Pool `$Pool")) }
        $runspace = New-RestrictedRunspace $state
        try {
            (Invoke-Restricted $runspace 'Show-Host' @{ Pool = $File }).Found.Count | Should -Be 4
            (Invoke-Restricted $runspace 'Show-Host' @{}).Found.Count | Should -Be 4
            { Invoke-Restricted $runspace 'Show-Host' @{ Pool = $other } } | Should -Throw '*ValidateSet*'
        }
        finally { $runspace.Dispose() }
    }
}
